import { attach, calibrate, hostTensor, type PeftModel } from '@peftjs/core';
import { referenceExecutor, toyModel, toyTrainingData } from '@peftjs/conformance';
import { lora } from '@peftjs/lora';
import type { Subject } from '../../packages/cli/src/run/parity.js';
import type { Found } from './executors.js';
import { oneOfEachFamily, parityMethods, type ParityMethod } from './methods.js';
import { parityNetworks, textsOf, type ParityNetwork } from './networks.js';

const SEED = 5;
const toyData = toyTrainingData(SEED, 5);

/**
 * A method on the toy encoder. Its initial values are always measured on the reference: factors of nearly equal
 * singular values may otherwise be swapped.
 */
export function methodSubject({ name, configured }: ParityMethod): Subject {
  return {
    name,
    kind: toyData.kind,
    batches: toyData.epoch(0),
    async attach(): Promise<PeftModel> {
      const model = toyModel();
      if (!configured.method.calibration?.(configured.config)) return attach(model, configured, { seed: SEED });
      const options = { executor: await referenceExecutor(), batches: 2, seed: SEED };
      return attach(model, configured, {
        seed: SEED,
        calibration: await calibrate(model, configured, toyData, options),
      });
    },
  };
}

/** LoRA on a network, with one batch repeated. */
export async function networkSubject({ name, load }: ParityNetwork, loraDropout = 0.1): Promise<Subject> {
  const { model, batch, kind } = await load();
  return {
    name,
    kind,
    batches: [batch, batch],
    attach: () => Promise.resolve(attach(model, lora({ r: 2, loraAlpha: 4, loraDropout }), { seed: SEED })),
  };
}

/**
 * Kinds of data that no network here has, on the toy encoder: rows with any number of labels, and with several texts.
 */
function kindSubjects(): Subject[] {
  const batches = toyData.epoch(0);
  const attached = (): Promise<PeftModel> => Promise.resolve(attach(toyModel(), lora({ r: 2 }), { seed: SEED }));
  const labels = (rows: number) =>
    hostTensor(
      Float32Array.from({ length: rows * 3 }, (_, place) => Number(place % 2 === 0)),
      [rows, 3],
    );
  return [
    {
      name: 'lora for several labels',
      kind: 'multi-label',
      batches: batches.map((batch) => ({ ...batch, labels: labels(batch.rows.length) })),
      attach: attached,
    },
    {
      name: 'lora for triplets',
      kind: 'triplets',
      batches: batches.map((batch) => textsOf(batch, 3)),
      attach: attached,
    },
    {
      name: 'lora for scored pairs',
      kind: 'scored-pairs',
      batches: batches.map((batch) => textsOf(batch, 2)),
      attach: attached,
    },
  ];
}

/** LoRA on a network with dropout of its own. */
function dropoutSubject(): Subject {
  return {
    ...{ name: "lora with the network's dropout", kind: toyData.kind, batches: toyData.epoch(0), dropout: 'config' },
    attach: () => Promise.resolve(attach(toyModel(), lora({ r: 2 }), { seed: SEED })),
  };
}

/** The methods, kinds of data and settings that an executor is tested with. */
export function methodSubjects({ cases }: Found): Subject[] {
  const methods = (cases === 'all' ? parityMethods : oneOfEachFamily).map(methodSubject);
  return [...methods, ...kindSubjects(), dropoutSubject()];
}

/** The networks that an executor is tested with. */
export async function networkSubjects(networks = parityNetworks): Promise<(found: Found) => Subject[]> {
  const subjects = await Promise.all(
    networks.map(async (network) => ({ network, subject: await networkSubject(network) })),
  );
  const isFirst = ({ family }: ParityNetwork, index: number): boolean =>
    networks.findIndex((other) => other.family === family) === index;
  return ({ cases }) =>
    subjects.filter(({ network }, index) => cases === 'all' || isFirst(network, index)).map(({ subject }) => subject);
}
