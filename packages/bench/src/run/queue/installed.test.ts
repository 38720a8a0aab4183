import { UnsupportedError } from '@peftjs/core/method';
import { expect, it } from 'vitest';
import { assertInstalled } from './contract.js';

it('the packages of the queue are optional: what is missing is named with the command that installs it', () => {
  assertInstalled();
  expect(() => {
    assertInstalled({ ioredis: '6', 'no-queue': '5', 'no-client': '2' });
  }).toThrow(
    new UnsupportedError(
      '--queue needs no-queue and no-client, which are not installed: npm install no-queue@5 no-client@2',
      'queue',
    ),
  );
});
