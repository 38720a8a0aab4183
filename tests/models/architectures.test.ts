import { readFileSync } from 'node:fs';
import { attach, type Batch } from '@peftjs/core';
import { floats, tensorAt, type HostTensor } from '@peftjs/core/method';
import { relativeDistance } from '@peftjs/conformance';
import { full } from '@peftjs/baselines';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { readSafetensors, toFloat32 } from '@peftjs/safetensors';
import { describe, expect, it } from 'vitest';
import { GRADIENTS, expectGradientsOfPeft, firstStep } from './gradients.js';
import {
  batchOf,
  decoders,
  golden,
  goldenValues,
  headsOf,
  load,
  networks,
  outputsOf,
  outputsOfAll,
  tiny,
  tokenRows,
  variants,
  endedBatch,
  withoutHead,
} from './tiny.js';

/** The tolerances of logits and hidden states, and of gradients: ||a - b|| / ||b||. */
const TOLERANCE = 1e-5;
const GRADIENT_TOLERANCE = 1e-4;

/** tests/parity compares the other executors with it. */
const executor = compiled({ threads: 1 });
const BATCHES = [0, 1, 2];

/** Written by tools/golden/left_padding.py. */
const leftPadding = readSafetensors(
  new Uint8Array(readFileSync(new URL('fixtures/left-padding.safetensors', import.meta.url))),
);

describe.each([...networks, ...decoders, ...variants])('%s', (network) => {
  const from = tiny(network);

  it.each(headsOf(from))("has the logits of transformers with its head for '%s'", async (head) => {
    const model = await load(from, head);
    const numbers = BATCHES.filter((number) => from.expected.has(`${head}/${number}/logits`));
    const batches = numbers.map((number) => batchOf(from, number));
    const outputs = await outputsOfAll(model, batches, executor);
    for (const [index, batch] of batches.entries()) {
      const expected = golden(from, `${head}/${numbers[index]}/logits`) as HostTensor;
      const rows = (values: Float32Array) => (expected.shape.length === 3 ? tokenRows(values, batch) : [...values]);
      const distance = relativeDistance(rows(outputs[index] ?? expect.fail('none')), rows(floats(expected)));
      expect(distance, `batch ${numbers[index]}`).toBeLessThan(TOLERANCE);
    }
  });

  it('has the hidden states of transformers', async () => {
    const [base, ...others] = headsOf(from);
    const model = withoutHead(await load(from, others.includes('tokens') ? 'tokens' : (others.at(-1) ?? base)));
    const batches = BATCHES.map((number) => batchOf(from, number));
    const outputs = await outputsOfAll(model, batches, executor);
    for (const [number, batch] of batches.entries()) {
      const actual = tokenRows(outputs[number] ?? expect.fail('none'), batch);
      const expected = tokenRows(goldenValues(from, `${number}/hidden`), batch);
      expect(relativeDistance(actual, expected), `batch ${number}`).toBeLessThan(TOLERANCE);
    }
  });

  const trained = headsOf(from).filter((head) => from.expected.has(`${head}/loss`));
  it.each(trained)("has the loss and the gradients of PEFT's LoRA with its head for '%s'", async (head) => {
    const model = await load(from, head);
    const peft = attach(model, lora({ r: 2, loraAlpha: 4 }));
    await expectGradientsOfPeft(peft, from, head, {
      batch: batchOf(from, GRADIENTS, { head }),
      executor,
      tolerance: GRADIENT_TOLERANCE,
      lossTolerance: TOLERANCE,
    });
  });

  it.runIf(from.keys.classes)('has the logits of transformers for left-padded rows', async () => {
    const batch = paddedBefore(batchOf(from, 2, { filler: from.config.pad_token_id as number }));
    const expected = toFloat32(leftPadding.get(`${network}/logits`) ?? expect.fail(network));
    const actual = await outputsOf(await load(from, 'classes'), batch, executor);
    expect(relativeDistance(actual, expected)).toBeLessThan(TOLERANCE);
  });

  it.runIf(from.keys.classes && from.keys.next)(
    'reads texts that end in padding tokens, in the mask, like transformers',
    async () => {
      // Causal attention: the logits that transformers has for the same tokens as padding.
      const expected = floats(golden(from, 'classes/2/logits') as HostTensor);
      const actual = await outputsOf(await load(from, 'classes'), endedBatch(from), executor);
      expect(relativeDistance(actual, expected)).toBeLessThan(TOLERANCE);
    },
  );

  it('gives the same outputs for any amount and content of padding', async () => {
    const [head] = headsOf(from);
    const model = await load(from, head);
    const [plain, padded] = [batchOf(from, 1), batchOf(from, 1, { further: 5, filler: 79 })];
    const outputs = await outputsOfAll(model, [plain, padded], executor);
    const [expected, actual] = [plain, padded].map((batch, index) => {
      const values = outputs[index] ?? expect.fail('none');
      return head === 'next' ? tokenRows(values, batch) : [...values];
    });
    expect(relativeDistance(actual ?? [], expected ?? [])).toBeLessThan(TOLERANCE);
  });
});

it.each(['gpt2', 'llama', 'gemma2'] as const)(
  '%s trains a tied embedding table both as input and as output',
  async (network) => {
    const from = tiny(network);
    const model = await load(from, 'next');
    const [table] = model.sites;
    const peft = attach(model, full({ targetModules: [table?.path ?? ''] }));
    const { gradients } = await firstStep(peft, batchOf(from, GRADIENTS, { head: 'next' }), 'next', executor);
    const actual = floats(tensorAt(gradients, `${table?.path}.weight`));
    expect(relativeDistance(actual, goldenValues(from, 'next/gradient/table'))).toBeLessThan(GRADIENT_TOLERANCE);
  },
);

/** A batch with each row's padding moved from behind its tokens to before them. */
function paddedBefore({ inputs, ...batch }: Batch): Batch {
  const mask = tensorAt(inputs, 'attentionMask');
  const [rows = 0, tokens = 0] = mask.shape;
  const lengths = Array.from({ length: rows }, (_, row) =>
    [...mask.data.slice(row * tokens, (row + 1) * tokens)].reduce((sum, isToken) => sum + isToken, 0),
  );
  const moved = ({ data, ...spec }: HostTensor): HostTensor => {
    const places = data.map((_, at) => {
      const [row, token] = [Math.floor(at / tokens), at % tokens];
      return row * tokens + ((token + (lengths[row] as number)) % tokens);
    });
    return { ...spec, data: data.map((_, at) => data[places[at] as number] as number) };
  };
  return { ...batch, inputs: Object.fromEntries(Object.entries(inputs).map(([name, rows]) => [name, moved(rows)])) };
}

it('gemma2 trains a norm whose gain is 1 + its weight', async () => {
  const from = tiny('gemma2');
  const peft = attach(await load(from, 'next'), full({ targetModules: ['model.norm'] }));
  const { gradients } = await firstStep(peft, batchOf(from, GRADIENTS, { head: 'next' }), 'next', executor);
  const expected = goldenValues(from, 'next/gradient/norm');
  const actual = floats(tensorAt(gradients, 'model.norm.weight'));
  expect(relativeDistance(actual, expected)).toBeLessThan(GRADIENT_TOLERANCE);
});
