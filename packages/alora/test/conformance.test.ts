import { testMethod } from '@peftjs/conformance';
import { alora } from '@peftjs/alora';

testMethod(alora, {
  configs: { 'rank 2': { r: 2, loraDropout: 0.1, rounds: 2, firstRound: 0.25, roundInterval: 0.5, probeRows: 4 } },
  rewritten: ['r'],
  invalid: [
    { options: { r: 0 }, field: 'r' },
    { options: { loraAlpha: -1 }, field: 'loraAlpha' },
    { options: { rounds: -1 }, field: 'rounds' },
    { options: { firstRound: 2 }, field: 'firstRound' },
    { options: { roundInterval: 0 }, field: 'roundInterval' },
    { options: { movedShare: 0 }, field: 'movedShare' },
    { options: { probeRows: 0 }, field: 'probeRows' },
    { options: { budget: -1 }, field: 'budget' },
  ],
});
