import { readFileSync } from 'node:fs';
import {
  attach,
  hostTensor,
  predict,
  train,
  type Batch,
  type Executor,
  type Model,
  type TrainOptions,
} from '@peftjs/core';
import { hostIntegers } from '@peftjs/core/method';
import { referenceExecutor, relativeDistance } from '@peftjs/conformance';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { bertFiles, bertInMemory } from './bert-tiny.js';
import { folder, headsOf, heads, tiny, type HeadName, type Network } from './tiny.js';

/* The networks' own dropout: where it is, its rates, and what it does in training. */

type Config = Readonly<Record<string, unknown>>;

/** Written by tools/golden/dropout.py: outputs with dropout that multiplies by 1 + rate, by network and head. */
const { networks } = JSON.parse(readFileSync(new URL('fixtures/dropout.json', import.meta.url), 'utf8')) as {
  networks: Readonly<
    Record<
      string,
      {
        readonly config: Config;
        readonly inputs: Readonly<Record<'input_ids' | 'attention_mask', number[][]>> & { token_type_ids?: number[][] };
        readonly outputs: Readonly<Record<string, readonly number[]>>;
      }
    >
  >;
};

const executor = await referenceExecutor();

/** The number of words whose logits the golden values of a language model have. */
const WORDS = 4;

/** The batch of a network's golden values. */
function batchIn(network: string): Batch {
  const { inputs } = networks[network] ?? expect.fail(network);
  const shape = [inputs.input_ids.length, inputs.input_ids[0]?.length ?? 0];
  const integers = (rows: number[][]) => hostIntegers(Int32Array.from(rows.flat()), shape);
  return {
    inputs: {
      inputIds: integers(inputs.input_ids),
      attentionMask: hostTensor(Float32Array.from(inputs.attention_mask.flat()), shape),
      ...(inputs.token_type_ids && { tokenTypeIds: integers(inputs.token_type_ids) }),
    },
    labels: hostIntegers(Int32Array.of(0, 1, 2), [3]),
    rowWeights: hostTensor(new Float32Array(3).fill(1), [3]),
    rows: [0, 1, 2],
  };
}

/** Loads a network with a head and other settings; 'none' is the network without a head. */
function loaded(network: string, head: string, changes: Config = {}): Promise<PretrainedModel> {
  const task = head === 'none' ? 'feature-extraction' : heads[head as HeadName].task;
  if (network !== 'bert') {
    const from = tiny(network as Network);
    const saved = head === 'none' ? headsOf(from)[0] : (head as HeadName);
    return fromPretrained('tiny', { task, storage: folder(from, saved, { config: changes }) });
  }
  const architectures = head === 'tokens' ? ['BertForTokenClassification'] : ['BertForSequenceClassification'];
  const settings = JSON.parse(new TextDecoder().decode(bertFiles['config.json'])) as Config;
  const config = new TextEncoder().encode(JSON.stringify({ ...settings, architectures, ...changes }));
  return fromPretrained('bert', { task, storage: bertInMemory({ 'config.json': config }) });
}

/** The outputs for a batch if dropout multiplies by 1 + rate, and the places where it did. */
async function stretched({ dropouts = {}, ...model }: Model, batch: Batch) {
  const places: string[] = [];
  const forward: Model['forward'] = (scope, inputs) =>
    model.forward(
      {
        ...scope,
        dropout(place, x) {
          places.push(place);
          return tf.mul(x, 1 + (dropouts[place] ?? expect.fail(`${place} is no place of the model's`)));
        },
      },
      inputs,
    );
  return { rows: await predict({ ...model, forward }, [batch], { executor }), places };
}

describe.each(Object.keys(networks))('the dropout of %s', (network) => {
  const { config, inputs, outputs } = networks[network] ?? expect.fail(network);
  const batch = batchIn(network);
  /** The values of a row that the golden values have: those of its tokens, if it has one list per token. */
  const kept = (row: Float32Array, at: number, head: string): number[] => {
    if (head === 'classes' || head === 'none') return [...row];
    const mask = inputs.attention_mask[at] ?? [];
    const width = row.length / mask.length;
    return mask.flatMap((isToken, token) =>
      isToken ? [...row.slice(token * width, head === 'next' ? token * width + WORDS : (token + 1) * width)] : [],
    );
  };

  it.each(Object.keys(outputs))(
    "is where transformers has it, with the same rates, with the head '%s'",
    async (head) => {
      const model = await loaded(network, head, config);
      const { rows, places } = await stretched(model, batch);
      const actual = rows.flatMap((row, at) => kept(row, at, head));
      expect(relativeDistance(actual, outputs[head] ?? [])).toBeLessThan(1e-5);
      expect([...new Set(places)].sort()).toEqual(Object.keys(model.dropouts ?? {}).sort());
      expect(places).toHaveLength(new Set(places).size);
      expect(model.fingerprint).toBe((await loaded(network, head)).fingerprint); // rates are not part of the network
    },
  );
});

describe('a rate of dropout in config.json', () => {
  it.each([
    ['bert', 'hidden_dropout_prob', 1],
    ['gpt2', 'attn_pdrop', -0.1],
    ['llama', 'attention_dropout', '0.1'],
    ['phi3', 'resid_pdrop', 1.5],
  ])('must be a number in [0, 1): %s', async (network, name, rate) => {
    await expect(loaded(network, 'none', { [name]: rate })).rejects.toThrow(
      new RegExp(`config.json: '${name}' must be a rate of dropout, a number of at least 0 and below 1, got `),
    );
  });
});

/** Trains a network on one batch for three steps too small to change it; returns the losses and the outputs after them. */
async function trained(
  model: PretrainedModel,
  batch: Batch,
  by: Executor,
  options: Partial<TrainOptions> = {},
  seed = 1,
) {
  const losses: number[] = [];
  const peft = attach(model, lora({ r: 2 }), { seed });
  await train(
    peft,
    { kind: 'classification', batchesPerEpoch: 1, epoch: () => [batch] },
    {
      ...{ executor: by, epochs: 3, learningRate: 1e-12 },
      onStep: ({ loss }) => losses.push(loss),
      ...options,
    },
  );
  return { losses, rows: await predict(peft, [batch], { executor: by }) };
}

describe('training with the dropout of a network', () => {
  const by = compiled({ threads: 1 });
  const batch = batchIn('bert');

  it('draws masks from the seed, and evaluates without them', async () => {
    const model = await loaded('bert', 'classes');
    const first = await trained(model, batch, by, { dropout: 'config' });
    expect(await trained(model, batch, by, { dropout: 'config' })).toEqual(first);
    expect(new Set([...first.losses, ...(await trained(model, batch, by, { dropout: 'config' }, 2)).losses]).size).toBe(
      6,
    );
    const plain = await predict(model, [batch], { executor: by });
    expect(
      relativeDistance(
        first.rows.flatMap((row) => [...row]),
        plain.flatMap((row) => [...row]),
      ),
    ).toBeLessThan(1e-5);
  });

  it.each(['bert', 'deberta-v3', 'gpt2', 'phi3'])(
    'is the same on the compiled engine as on the reference: %s',
    async (network) => {
      const model = await loaded(network, 'classes');
      const own = batchIn(network);
      const [actual, expected] = [
        await trained(model, own, by, { dropout: 0.3 }),
        await trained(model, own, executor, { dropout: 0.3 }),
      ];
      expect(relativeDistance(actual.losses, expected.losses)).toBeLessThan(1e-5);
    },
  );
});
