import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  attach,
  disableAdapter,
  hostTensor,
  mergeAndUnload,
  predict,
  type Batch,
  type Executor,
  type Model,
  type PeftModel,
} from '@peftjs/core';
import { ConfigError, hostIntegers, UnsupportedError } from '@peftjs/core/method';
import { quantizedModel } from '@peftjs/core/model';
import { releaseRuntimes } from '@peftjs/core/runtime';
import { referenceExecutor, relativeDistance } from '@peftjs/conformance';
import { compiled, eager } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { generate, openGenerator, type GenerateOptions, type PretrainedModel } from '@peftjs/models';
import { readSafetensors, toFloat32, type StoredTensor } from '@peftjs/safetensors';
import { describe, expect, it } from 'vitest';
import { load, tiny } from './tiny.js';

const networks = ['gpt2', 'llama', 'qwen2'] as const;
/** Networks like Llama, with head norms, windows, two kinds of rotary angles, and angles that depend on the length. */
const decoders = ['qwen3', 'mistral', 'gemma3', 'phi3'] as const;
type Network = (typeof networks | typeof decoders)[number];

const executors: Record<string, Executor> = {
  'the reference': await referenceExecutor(),
  'the compiled engine': compiled({ threads: 1 }),
  WebAssembly: await eager({ backend: 'wasm' }),
};
const engine = executors['the compiled engine'] as Executor;
const cases = [
  ...networks.flatMap((network) => Object.entries(executors).map(([name, executor]) => ({ network, name, executor }))),
  ...decoders.map((network) => ({ network, name: 'the compiled engine', executor: engine })),
];

/** As in tools/golden/generation.py. */
const PENALTY = 2;
const NEW_TOKENS = 24;
const GREEDY: GenerateOptions = { maxNewTokens: NEW_TOKENS, eosTokenId: [] };

/** The outputs of transformers for a network. */
function golden(network: Network) {
  const path = fileURLToPath(new URL(`fixtures/${network}-tiny/generation.safetensors`, import.meta.url));
  const tensors = readSafetensors(new Uint8Array(readFileSync(path)));
  const tensor = (name: string): StoredTensor => tensors.get(name) ?? expect.fail(`no ${name} in ${path}`);
  const ids = (name: string): number[] => Array.from(tensor(name).data as Int32Array);
  const numbers = [0, 1, 2];
  return {
    ids,
    prompts: numbers.map((number) => ids(`prompt/${number}`)),
    written: numbers.map((number) => ids(`alone/${number}/ids`)),
    batched: numbers.map((number) => ids('batch/ids').slice(number * NEW_TOKENS, (number + 1) * NEW_TOKENS)),
    logits: toFloat32(tensor('batch/logits')),
  };
}

const model = (network: Network): Promise<PretrainedModel> => load(tiny(network), 'next');

async function idsOf(
  own: Model | PeftModel,
  prompts: readonly ArrayLike<number>[],
  options: GenerateOptions = GREEDY,
  executor = engine,
): Promise<number[][]> {
  return (await generate(own, prompts, { executor, ...options })).map(({ ids }) => ids);
}

/** The logits of every step of `generate`, [prompts, steps, words], from which the tokens were chosen. */
async function stepLogits(
  own: PretrainedModel,
  prompts: readonly number[][],
  executor: Executor,
): Promise<Float32Array> {
  const steps: Float32Array[] = [];
  const watching: Executor = {
    ...executor,
    async compile(fn, inputs) {
      const made = await executor.compile(fn, inputs);
      const run: typeof made.run = async (values) => {
        const outputs = await made.run(values);
        steps.push((await executor.download(outputs.logits)).data as Float32Array);
        return outputs;
      };
      return { ...made, run, dispose: () => made.dispose() };
    },
  };
  await generate(own, prompts, { executor: watching, ...GREEDY });
  const words = (steps[0]?.length ?? 0) / prompts.length;
  return Float32Array.from(
    prompts.flatMap((_, row) => steps.flatMap((step) => [...step.slice(row * words, (row + 1) * words)])),
  );
}

/** The logits [tokens, words] of a whole text, recomputed. */
async function textLogits(own: Model, ids: readonly number[], executor: Executor): Promise<Float32Array> {
  const shape = [1, ids.length];
  const batch: Batch = {
    inputs: {
      inputIds: hostIntegers(Int32Array.from(ids), shape),
      attentionMask: hostTensor(new Float32Array(ids.length).fill(1), shape),
    },
    labels: hostIntegers(Int32Array.from(ids), shape),
    rowWeights: hostTensor(Float32Array.of(1), [1]),
    rows: [0],
  };
  const [logits] = await predict(own, [batch], { executor });
  return logits ?? expect.fail('no outputs');
}

describe.each(cases)('$network on $name', ({ network, executor }) => {
  const expected = golden(network);

  it('generates the tokens of transformers, alone and in a padded batch', async () => {
    const own = await model(network);
    const longest = expected.prompts.slice(1, 2);
    expect(await idsOf(own, longest, GREEDY, executor)).toEqual(expected.written.slice(1, 2));
    expect(await idsOf(own, expected.prompts, GREEDY, executor)).toEqual(expected.batched);
  });

  it('has the logits of transformers at every step, and those of the recomputed text', async () => {
    const own = await model(network);
    const logits = await stepLogits(own, expected.prompts, executor);
    expect(relativeDistance(logits, expected.logits)).toBeLessThan(1e-5);
    if (network === 'phi3') return; // the longest text of a batch decides the rotary angles of all
    const [prompt = [], written = []] = [expected.prompts[2], expected.written[2]];
    const anew = await textLogits(own, [...prompt, ...written.slice(0, -1)], executor);
    const words = logits.length / 3 / NEW_TOKENS;
    const kept = logits.subarray(2 * NEW_TOKENS * words);
    expect(relativeDistance(kept, anew.subarray((prompt.length - 1) * words))).toBeLessThan(1e-5);
  });
});

describe.each(networks)('%s', (network) => {
  const { prompts, written, ids } = golden(network);
  const longest = prompts.slice(1, 2);

  it('applies a repetition penalty, and ends at any of several tokens and at its last position, as in transformers', async () => {
    const own = await model(network);
    expect(await idsOf(own, longest, { ...GREEDY, repetitionPenalty: PENALTY })).toEqual([ids('penalty/ids')]);
    const ended = await generate(own, longest, { executor: engine, ...GREEDY, eosTokenId: ids('ended/eos') });
    expect(ended).toEqual([{ ids: ids('ended/ids'), ended: 'eos' }]);
    const long = await generate(own, [ids('long/prompt')], { executor: engine, maxNewTokens: 1000, eosTokenId: [] });
    expect(long).toEqual([{ ids: ids('long/ids'), ended: 'length' }]);
  });

  it('writes no pair of tokens twice, if asked', async () => {
    const [prompt = []] = longest;
    const [written = []] = await idsOf(await model(network), longest, { ...GREEDY, noRepeatNgramSize: 2 });
    const text = [prompt.at(-1), ...written];
    const pairs = written.map((id, at) => `${text[at]} ${id}`);
    expect(new Set(pairs).size).toBe(pairs.length);
  });

  it('generates the same with adapters as with merged ones', async () => {
    const own = await model(network);
    const peft = attach(own, lora({ r: 4, targetModules: 'all-linear', initLoraWeights: false }), { seed: 3 });
    const adapted = await idsOf(peft, prompts);
    expect(adapted).not.toEqual(written);
    expect(await idsOf(mergeAndUnload(peft), prompts)).toEqual(adapted);
    await disableAdapter(peft, async () => {
      expect(await idsOf(peft, prompts)).toEqual(written);
    });
  });

  it('continues after some texts of a batch have ended', async () => {
    const own = await model(network);
    const stoppingCriteria = (text: readonly number[], prompt: number) => prompt !== 1 && text.length === 2;
    const texts = await generate(own, prompts, { executor: engine, ...GREEDY, stoppingCriteria });
    expect(texts.map(({ ended }) => ended)).toEqual(['stopped', 'length', 'stopped']);
    expect(texts.map((text) => text.ids)).toEqual([written[0]?.slice(0, 2), written[1], written[2]?.slice(0, 2)]);
  });
});

it('reads a text again that outgrows the original positions of phi3 after a longer one has ended', async () => {
  const own = await model('phi3'); // with 16 of them
  const [short, long] = [5, 13].map((length) => Array.from({ length }, (_, at) => (3 + 7 * at) % 50));
  const stoppingCriteria = (_: readonly number[], prompt: number) => prompt === 1;
  const asked = { ...GREEDY, executor: engine, maxNewTokens: 18, stoppingCriteria };
  const [beside] = await generate(own, [short, long] as number[][], asked);
  expect([beside]).toEqual(await generate(own, [short] as number[][], asked));
});

describe('sampling', () => {
  const { prompts } = golden('llama');
  const drawing = { doSample: true, maxNewTokens: 12, eosTokenId: [] };

  it('gives the same texts for a seed on every executor, and others for another', async () => {
    const own = await model('llama');
    const first = await idsOf(own, prompts, { ...drawing, seed: 1 });
    for (const executor of Object.values(executors)) {
      expect(await idsOf(own, prompts, { ...drawing, seed: 1 }, executor)).toEqual(first);
    }
    expect(await idsOf(own, prompts, { ...drawing, seed: 2 })).not.toEqual(first);
  });

  it('does not depend on the other texts of a batch, which have their own random numbers', async () => {
    const own = await model('llama');
    const [first, second] = await idsOf(
      own,
      [
        [7, 8],
        [7, 8],
      ],
      drawing,
    );
    expect(first).not.toEqual(second);
    expect(await idsOf(own, [[7, 8], [9]], drawing)).toEqual([first, expect.anything()]);
  });

  it('is greedy with one candidate, or with a temperature near zero', async () => {
    const own = await model('llama');
    const greedy = await idsOf(own, prompts, { maxNewTokens: 12, eosTokenId: [] });
    expect(await idsOf(own, prompts, { ...drawing, topK: 1 })).toEqual(greedy);
    expect(await idsOf(own, prompts, { ...drawing, topP: 1e-6 })).toEqual(greedy);
    expect(await idsOf(own, prompts, { ...drawing, temperature: 1e-4 })).toEqual(greedy);
  });
});

it('reports each token as it is generated, and stops on request', async () => {
  const own = await model('qwen2');
  const { prompts, written } = golden('qwen2');
  const told: number[][] = [[], [], []];
  await generate(own, prompts, {
    executor: engine,
    ...GREEDY,
    onToken: ({ prompt, id }) => void told[prompt]?.push(id),
  });
  expect(told).toEqual(written);
  const stop = new AbortController();
  const onToken = () => {
    stop.abort();
  };
  await expect(generate(own, prompts, { executor: engine, ...GREEDY, onToken, signal: stop.signal })).rejects.toThrow(
    /abort/i,
  );
});

it('generates with 8-bit weights the same as from the whole text', async () => {
  const own = quantizedModel(await model('qwen2'));
  const { prompts } = golden('qwen2');
  const [logits, texts] = [await stepLogits(own, prompts, engine), await idsOf(own, prompts)];
  const [prompt = [], written = []] = [prompts[0], texts[0]];
  const anew = await textLogits(own, [...prompt, ...written.slice(0, -1)], engine);
  expect(relativeDistance(logits.subarray(0, anew.length), anew)).toBeLessThan(1e-5);
});

it('compiles once for prompts of many lengths, and releases everything', async () => {
  const own = await model('gpt2');
  const { prompts, written } = golden('gpt2');
  const held = new Set<unknown>();
  let compilations = 0;
  const counting: Executor = {
    ...engine,
    upload: (tensor) => added(engine.upload(tensor)),
    release(value) {
      held.delete(value);
      engine.release(value);
    },
    async compile(fn, inputs) {
      compilations++;
      const made = await engine.compile(fn, inputs);
      const run: typeof made.run = async (values) => {
        const outputs = await made.run(values);
        Object.values(outputs).forEach(added);
        return outputs;
      };
      return { ...made, run, dispose: () => made.dispose() };
    },
  };
  const generator = openGenerator(own, { executor: counting });
  for (const [number, prompt] of prompts.entries()) {
    expect(await generator.generate([prompt], { ...GREEDY, maxNewTokens: 8 })).toEqual([
      { ids: written[number]?.slice(0, 8), ended: 'length' },
    ]);
  }
  await generator.dispose();
  await releaseRuntimes(counting);
  expect(compilations).toBe(2);
  expect(held.size).toBe(0);

  function added(value: unknown): unknown {
    held.add(value);
    return value;
  }
});

describe('bad input is rejected', () => {
  const refused: [what: string, prompts: unknown, options: GenerateOptions, message: RegExp][] = [
    ['no prompts', [], {}, /expected a list of prompts/],
    ['a prompt that is not in a list', [1, 2], {}, /prompt 0 is 1; expected a list of token ids/],
    ['an empty prompt', [[1], []], {}, /prompt 1 is empty; expected at least one token/],
    ['a long prompt', [new Int32Array(49)], {}, /49 tokens long; expected at most 48: truncate/],
    ['an unknown token', [[3, 80]], {}, /prompt 0 is with the token 80; expected ids from 0 to 79/],
    ['no length', [[1]], { maxNewTokens: 0 }, /option 'maxNewTokens' is 0; expected/],
    ['a temperature of zero', [[1]], { doSample: true, temperature: 0 }, /option 'temperature' is 0; expected/],
    ['a share above one', [[1]], { doSample: true, topP: 1.5 }, /option 'topP' is 1.5; expected at most 1/],
    ['a negative share', [[1]], { doSample: true, minP: -0.1 }, /option 'minP' is -0.1; expected at least 0/],
    ['half a token', [[1]], { doSample: true, topK: 2.5 }, /option 'topK' is 2.5; /],
    ['a negative penalty', [[1]], { repetitionPenalty: -1 }, /option 'repetitionPenalty' is -1; expected/],
    [
      'an impossible end token',
      [[1]],
      { eosTokenId: [1.5] },
      /option 'eosTokenId' is \[1.5\]; expected the id of a token/,
    ],
  ];

  it.each(refused)('%s', async (_, prompts, options, message) => {
    const own = await model('gpt2');
    const writing = generate(own, prompts as number[][], { executor: engine, ...options });
    await expect(writing).rejects.toThrow(ConfigError);
    await expect(writing).rejects.toThrow(message);
  });

  it('a model with another head', async () => {
    const classifier = await load(tiny('gpt2'), 'classes');
    await expect(generate(classifier, [[1]], { executor: engine })).rejects.toThrow(UnsupportedError);
    await expect(generate(classifier, [[1]], { executor: engine })).rejects.toThrow(
      /load a decoder with the task 'causal-lm'/,
    );
  });
});
