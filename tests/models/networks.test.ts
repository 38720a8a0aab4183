import { bitfit, houlsby, ia3, pfeiffer } from '@peftjs/baselines';
import {
  activeAdapter,
  addAdapter,
  attach,
  hostTensor,
  predict,
  train,
  type Model,
  type PeftModel,
  type TrainingData,
} from '@peftjs/core';
import { createRng, sizeOf, TargetModuleError, type ConfiguredMethod, type Site } from '@peftjs/core/method';
import { referenceExecutor, relativeDistance } from '@peftjs/conformance';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import type { Tensor } from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { batchOf, heads, headsOf, load, networks, outputsOf, tiny, type HeadName, type Network } from './tiny.js';

const executor = await referenceExecutor();

/** Every module that a forward pass reaches, and its number of tokens per row, for a batch of 7 rows. */
async function reached(model: Model, network: Network): Promise<Map<string, number>> {
  const tokens = new Map<string, number>();
  const noting =
    <R extends unknown[]>(module: (path: string, x: Tensor, ...rest: R) => Tensor) =>
    (path: string, x: Tensor, ...rest: R): Tensor => {
      tokens.set(path, x.shape[1] as number);
      return module(path, x, ...rest);
    };
  const forward: Model['forward'] = (scope, inputs) => {
    const { linear, embedding, layerNorm, rmsNorm } = scope;
    const noted = { linear: noting(linear), embedding: noting(embedding) };
    return model.forward({ ...scope, ...noted, layerNorm: noting(layerNorm), rmsNorm: noting(rmsNorm) }, inputs);
  };
  await predict({ ...model, forward }, [batchOf(tiny(network), 1)], { executor });
  return tokens;
}

/** The shape of a weight in transformers, from its shape here. */
function inTransformers({ kind, fanInFanOut }: Site, shape: readonly number[]): readonly number[] {
  return kind === 'linear' && !fanInFanOut && shape.length === 2 ? [...shape].reverse() : shape;
}

describe.each(networks)('%s', (network) => {
  const from = tiny(network);
  const tied = from.config.tie_word_embeddings === true;

  it.each(headsOf(from))("has exactly the modules of transformers with its head for '%s'", async (head) => {
    const { sites, weights } = await load(from, head);
    const shapes = Object.entries(weights).map(([name, { shape }]) => {
      const site = sites.find(({ path }) => name.startsWith(`${path}.`)) ?? expect.fail(`${name} is of no module`);
      return [name, inTransformers(site, shape)];
    });
    const { 'lm_head.weight': languageModelHead, ...others } = from.keys[head] ?? {};
    const isFrozenHead = languageModelHead !== undefined && !tied;
    const expected = { ...others, ...(isFrozenHead && { 'lm_head.weight': languageModelHead }) };
    expect(Object.fromEntries(shapes)).toEqual(expected);
  });

  it.each(headsOf(from))("reaches all its modules with its head for '%s'", async (head) => {
    const model = await load(from, head);
    const sites = [...model.sites, ...(model.tied ?? []).map((tied) => tied.site)];
    expect([...(await reached(model, network)).keys()].sort()).toEqual(sites.map(({ path }) => path).sort());
  });

  it('adapts the same modules as PEFT by default', async () => {
    const adapter = activeAdapter(attach(await load(from, 'classes'), lora({ r: 2 })));
    const keys = [...from.expected.keys()].flatMap((key) => /^lora\/(.*)\.lora_A\.weight$/.exec(key)?.[1] ?? []);
    expect(Object.keys(adapter.layers).sort()).toEqual(keys.sort());
  });

  it('gives the role of each module of a layer', async () => {
    const { sites } = await load(from, 'classes');
    for (const layer of [0, 1]) {
      const roles = new Set(sites.filter((site) => site.layer === layer).map(({ role }) => role));
      const attention = roles.has('attention.qkv') ? ['qkv'] : ['query', 'key', 'value'];
      for (const name of [...attention, 'output']) expect(roles).toContain(`attention.${name}`);
      for (const name of ['ffn.in', 'ffn.out']) expect(roles).toContain(name);
    }
  });

  it('only computes the last layer for the token that the head reads', async () => {
    const model = await load(from, 'classes');
    const tokens = await reached(model, network);
    const ofLayer = (layer: number, ...roles: Site['role'][]) =>
      model.sites
        .filter((site) => site.layer === layer && roles.includes(site.role))
        .map(({ path }) => tokens.get(path));
    expect(new Set(ofLayer(1, 'attention.output', 'ffn.in', 'ffn.out'))).toEqual(new Set([1]));
    expect(new Set(ofLayer(0, 'attention.output', 'ffn.in', 'ffn.out'))).toEqual(new Set([7]));
    const every = await load(from, 'tokens');
    const all = await reached(every, network);
    expect(new Set(every.sites.filter(({ role }) => role === 'ffn.out').map(({ path }) => all.get(path)))).toEqual(
      new Set([7]),
    );
  });

  it('accepts methods that select modules by role, which hardly change its outputs at the start', async () => {
    const model = await load(from, 'classes');
    const batch = batchOf(from, 1);
    const plain = await outputsOf(model, batch, executor);
    const methods: readonly ConfiguredMethod[] = [
      ia3(),
      houlsby({ bottleneck: 2 }),
      pfeiffer({ bottleneck: 2 }),
      bitfit(),
    ];
    for (const method of methods) {
      if ((network === 'llama' || network === 'modernbert') && method.method.name === 'bitfit') {
        expect(() => attach(model, method)).toThrow(TargetModuleError); // it has no bias
        continue;
      }
      const rows = await predict(attach(model, method), [batch], { executor });
      const outputs = rows.flatMap((row) => [...row]);
      expect(relativeDistance(outputs, plain), method.method.name).toBeLessThan(1e-2);
    }
  });

  it('is also loaded without the prefix of its class', async () => {
    const prefix = /^(?:distilbert|roberta|electra|deberta|mpnet|transformer|model)\./;
    const rename = (key: string) => (prefix.test(key) ? key.replace(prefix, '') : undefined);
    const bare = await load(from, 'classes', {}, { rename, config: { architectures: null } });
    expect(bare.fingerprint).toBe((await load(from, 'classes')).fingerprint);
    expect(bare.pretrainedHead).toBe(false);
    expect(bare.sites.at(-1)?.outFeatures).toBe(2);
  });

  it('gives a sentence embedding that does not depend on the head', async () => {
    const [own, other] = [await load(from, 'classes'), await load(from, 'tokens')];
    const embedded = (model: typeof own) =>
      outputsOf({ ...model, forward: (scope, inputs) => model.encode(scope, inputs) }, batchOf(from, 1), executor);
    const embedding = await embedded(own);
    expect(embedding).toHaveLength(3 * 32);
    expect(relativeDistance(await embedded(other), embedding)).toBeLessThan(1e-5);
  });

  it.each(headsOf(from).filter((head) => head === 'tokens' || head === 'next'))(
    "learns the labels of its head for '%s', on the compiled engine",
    async (head) => {
      const peft = attach(await load(from, head), lora({ r: 4, targetModules: 'all-linear' }), { seed: 1 });
      const losses = await lossesOf(peft, network, head);
      expect(losses.at(-1)).toBeLessThan(0.7 * (losses[0] ?? 0));
    },
  );
});

it('lets the rows of a batch use different adapters, except where they share an input', async () => {
  for (const network of ['roberta', 'llama', 'deberta-v3'] as const) {
    const model = await load(tiny(network), 'classes');
    const peft = attach(model, lora({ r: 2, targetModules: 'all-linear' }), { adapterName: 'one' });
    addAdapter(peft, lora({ r: 3, targetModules: 'all-linear' }), { adapterName: 'two' });
    for (const name of ['one', 'two']) {
      const adapter = peft.adapters.get(name) ?? expect.fail(name);
      const drawn = Object.entries(adapter.values).map(([key, { shape }], index) => {
        const rng = createRng(index).fork(`${name} ${key}`);
        return [
          key,
          hostTensor(
            Float32Array.from({ length: sizeOf(shape) }, () => 0.2 * rng.normal()),
            shape,
          ),
        ] as const;
      });
      peft.adapters.set(name, { ...adapter, values: Object.fromEntries(drawn) });
    }
    const batches = [batchOf(tiny(network), 1)];
    const mixed = predict(peft, batches, { executor, adapterNames: ['two', 'one', 'two'] });
    if (network === 'deberta-v3') {
      await expect(mixed).rejects.toThrow(/'deberta\..*' reads values that all rows of a batch share/);
      continue;
    }
    const alone = await predict({ ...peft, active: ['two'] }, batches, { executor });
    expect(relativeDistance((await mixed)[0] ?? [], alone[0] ?? []), network).toBeLessThan(1e-5);
    expect(relativeDistance((await mixed)[1] ?? [], alone[1] ?? []), network).toBeGreaterThan(1e-2);
  }
});

async function lossesOf(peft: PeftModel, network: Network, head: HeadName): Promise<number[]> {
  const batch = batchOf(tiny(network), 1, { head });
  const data: TrainingData = { kind: heads[head].kind, batchesPerEpoch: 1, epoch: () => [batch] };
  const losses: number[] = [];
  const onStep = ({ loss }: { loss: number }) => losses.push(loss);
  await train(peft, data, { executor: compiled({ threads: 1 }), epochs: 30, learningRate: 3e-2, onStep });
  return losses;
}
