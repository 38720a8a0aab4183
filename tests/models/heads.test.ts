import { full } from '@peftjs/baselines';
import {
  activeAdapter,
  addAdapter,
  attach,
  hostTensor,
  loadPretrained,
  memoryStorage,
  mergeAdapter,
  mergeAndUnload,
  predict,
  savePretrained,
  setAdapter,
  type Batch,
  type Model,
  type PeftModel,
} from '@peftjs/core';
import {
  ConfigError,
  floats,
  hostIntegers,
  mapTensor,
  tensorAt,
  UnsupportedError,
  type ConfiguredMethod,
} from '@peftjs/core/method';
import { replaceAdapter } from '@peftjs/core/model';
import { referenceExecutor, relativeDistance } from '@peftjs/conformance';
import { lora } from '@peftjs/lora';
import { saveMerged } from '@peftjs/models';
import { vera } from '@peftjs/vera';
import { describe, expect, it } from 'vitest';
import { batchOf, endedBatch, folder, goldenValues, load, outputsOf, tiny, type Network } from './tiny.js';

describe('a head', () => {
  it('keeps those of its modules that fit, and only initialises the others', async () => {
    const from = tiny('roberta');
    const [own, other] = [await load(from, 'classes'), await load(from, 'classes', { numLabels: 2 })];
    expect(own.pretrainedHead).toBe(true);
    expect(other.pretrainedHead).toEqual(['classifier.dense']);
    expect(other.weights['classifier.dense.weight']).toEqual(own.weights['classifier.dense.weight']);
    const valuesOf = (model: Model, seed: number) => activeAdapter(attach(model, lora({ r: 2 }), { seed })).values;
    const [one, two] = [valuesOf(other, 1), valuesOf(other, 2)];
    expect(one['classifier.dense.weight']).toEqual(own.weights['classifier.dense.weight']);
    expect(two['classifier.dense.weight']).toEqual(one['classifier.dense.weight']);
    expect(two['classifier.out_proj.weight']).not.toEqual(one['classifier.out_proj.weight']);
    expect(valuesOf(own, 2)['classifier.out_proj.weight']).toEqual(own.weights['classifier.out_proj.weight']);
  });

  it('is new if the checkpoint has one for another task', async () => {
    const options = { task: 'sequence-classification' } as const;
    for (const network of ['roberta', 'distilbert', 'electra', 'deberta-v3', 'llama'] as const) {
      const model = await load(tiny(network), 'tokens', options);
      expect(model.pretrainedHead, network).toBe(false);
      expect(model.sites.at(-1)?.outFeatures, network).toBe(2);
    }
  });

  it("is saved with PEFT's names and the type of its task, and loaded again", async () => {
    const expected = {
      roberta: ['classes', ['classifier'], 'SEQ_CLS'],
      distilbert: ['classes', ['pre_classifier', 'classifier'], 'SEQ_CLS'],
      'deberta-v3': ['tokens', ['classifier'], 'TOKEN_CLS'],
      llama: ['classes', ['score'], 'SEQ_CLS'],
      gpt2: ['next', null, 'CAUSAL_LM'],
    } as const;
    for (const [name, [head, modulesToSave, taskType]] of Object.entries(expected)) {
      const network = name as Network;
      const model = await load(tiny(network), head, head === 'classes' ? { numLabels: 4 } : {});
      const storage = memoryStorage();
      const peft = attach(model, lora({ r: 2 }), { seed: 3 });
      await savePretrained(peft, 'adapter', { storage });
      const config: unknown = JSON.parse(new TextDecoder().decode(await storage.read('adapter/adapter_config.json')));
      expect(config, name).toMatchObject({ modules_to_save: modulesToSave, task_type: taskType });
      const again = await loadPretrained(model, 'adapter', { methods: [lora], storage });
      expect(Object.keys(activeAdapter(again).saved), name).toEqual(Object.keys(activeAdapter(peft).saved));
      for (const key of Object.keys(activeAdapter(peft).values)) {
        expect(tensorAt(activeAdapter(again).values, key), `${name}: ${key}`).toEqual(
          tensorAt(activeAdapter(peft).values, key),
        );
      }
    }
  });

  it('of a causal language model is frozen: the embedding table, or a module of the checkpoint', async () => {
    const [tied, untied] = [await load(tiny('llama'), 'next'), await load(tiny('qwen2'), 'next')];
    expect(tied.sites.map(({ path }) => path)).not.toContain('lm_head');
    expect(untied.sites.at(-1)).toMatchObject({ path: 'lm_head', role: 'head', hasBias: false });
    for (const model of [tied, untied]) {
      const { saved, layers } = activeAdapter(attach(model, lora({ r: 2, targetModules: 'all-linear' })));
      expect(saved).toEqual({});
      expect(layers).not.toHaveProperty('lm_head');
    }
  });

  it('that is tied to the embedding table gets its own weight if one of the two is changed, and both are merged', async () => {
    const model = await load(tiny('gpt2'), 'next');
    const [{ table } = { table: '' }] = model.tied ?? [];
    const adapted = [table, 'lm_head'].map((path) =>
      attach(model, lora({ r: 2, initLoraWeights: false, targetModules: [path, 'c_attn'] })),
    );
    const elsewhere = attach(model, lora({ r: 2 }));
    const whole = attach(model, full({ targetModules: [table] }));
    const values = floats(tensorAt(activeAdapter(whole).values, `${table}.weight`)).map((value) => 2 * value);
    replaceAdapter(whole, {
      values: { [`${table}.weight`]: { ...tensorAt(activeAdapter(whole).values, `${table}.weight`), data: values } },
    });
    const executor = await referenceExecutor();
    for (const peft of [...adapted, elsewhere, whole]) {
      const [own, merged] = [peft, mergeAndUnload(peft)].map((each) =>
        predict(each, [batchOf(tiny('gpt2'), 1)], { executor }),
      );
      expect(relativeDistance((await merged)?.[0] ?? [], (await own)?.[0] ?? [])).toBeLessThan(1e-5);
    }
  });

  it.each([
    [
      'modulesToSave',
      lora({ r: 2, targetModules: ['q_proj'], modulesToSave: ['embed_tokens'], ensureWeightTying: true }),
    ],
    ['full fine-tuning', full({ targetModules: ['embed_tokens'] })],
  ])('that is tied to a table trained by %s stays tied to it among other adapters', async (_, configured) => {
    const model = await load(tiny('llama'), 'next');
    const batch = batchOf(tiny('llama'), 1);
    const executor = await referenceExecutor();
    const outputs = async (peft: PeftModel | Model, options: { adapterNames?: string[] } = {}): Promise<number[]> =>
      (await predict(peft, [batch], { executor, ...options })).flatMap((row) => [...row]);
    const tuned = (other?: ConfiguredMethod): PeftModel => {
      const peft = attach(model, configured);
      const { values } = activeAdapter(peft);
      const key = 'model.embed_tokens.weight';
      const table = mapTensor(tensorAt(values, key), (value, at) => value + 0.3 * Math.sin(at));
      replaceAdapter(peft, { values: { ...values, [key]: table } });
      if (other) addAdapter(peft, other, { adapterName: 'other' });
      setAdapter(peft, other ? ['default', 'other'] : 'default');
      return peft;
    };
    const expected = await outputs(tuned());
    const merged = tuned();
    mergeAdapter(merged);
    const [onTable, onHead] = ['embed_tokens', 'lm_head'].map((name) => lora({ r: 2, targetModules: [name] }));
    const startingOnHead = lora({ r: 2, targetModules: ['lm_head'], initLoraWeights: 'pissa' });
    // None of these changes anything before it is trained.
    const others = [vera({ r: 2, targetModules: ['v_proj'] }), onTable, onHead, startingOnHead].map(tuned);
    for (const peft of [merged, ...others, ...others.map((each) => mergeAndUnload(each))]) {
      expect(relativeDistance(await outputs(peft), expected)).toBeLessThan(1e-5);
    }
    const adapterNames = batch.rows.map((row) => (row % 2 === 0 ? 'default' : 'other'));
    const [mixed, frozen] = [await outputs(tuned(onHead), { adapterNames }), await outputs(model)];
    const perRow = mixed.length / batch.rows.length;
    const ofRows = mixed.map((_, at) => (Math.floor(at / perRow) % 2 === 0 ? expected : frozen)[at] ?? NaN);
    expect(relativeDistance(mixed, ofRows)).toBeLessThan(1e-5);
  });

  it('on the last token leaves out padding tokens at the end of a text, if config.json names them', async () => {
    const executor = await referenceExecutor();
    for (const network of ['gpt2', 'llama', 'mistral'] as const) {
      const from = tiny(network);
      const read = async (config: object): Promise<ArrayLike<number>> =>
        outputsOf(await load(from, 'classes', {}, { config: { ...config } }), endedBatch(from), executor);
      const expected = goldenValues(from, 'classes/2/logits');
      expect(relativeDistance(await read({}), expected), network).toBeLessThan(1e-5);
      for (const id of [null, -1, 10_000]) {
        expect(relativeDistance(await read({ pad_token_id: id }), expected), `${network} ${id}`).toBeGreaterThan(1e-2);
      }
    }
  });

  it('on the last token reads the first one of a text of nothing but padding tokens', async () => {
    const model = await load(tiny('llama'), 'classes');
    const row = (ids: number[]): Batch => ({
      inputs: {
        inputIds: hostIntegers(Int32Array.from(ids), [1, ids.length]),
        attentionMask: hostTensor(
          Float32Array.from(ids, () => 1),
          [1, ids.length],
        ),
      },
      labels: hostIntegers(Int32Array.of(0), [1]),
      rowWeights: hostTensor(Float32Array.of(1), [1]),
      rows: [0],
    });
    const executor = await referenceExecutor();
    const [one, three] = [row([0]), row([0, 0, 0])].map((batch) => outputsOf(model, batch, executor));
    expect(relativeDistance((await three) ?? [], (await one) ?? [])).toBeLessThan(1e-6);
  });

  it('of XLM-RoBERTa and CamemBERT is that of RoBERTa, with their own class names', async () => {
    const executor = await referenceExecutor();
    const from = tiny('roberta');
    for (const [type, stem] of [
      ['xlm-roberta', 'XLMRoberta'],
      ['camembert', 'Camembert'],
    ] as const) {
      const config = { model_type: type, architectures: [`${stem}ForSequenceClassification`] };
      const model = await load(from, 'classes', {}, { config });
      expect(model.pretrainedHead).toBe(true);
      const logits = await outputsOf(model, batchOf(from, 1), executor);
      expect(relativeDistance(logits, goldenValues(from, 'classes/1/logits')), type).toBeLessThan(1e-5);
      const storage = memoryStorage();
      await saveMerged(model, 'out', { storage, sourceStorage: folder(from, 'classes', { config }) });
      const saved: unknown = JSON.parse(new TextDecoder().decode(await storage.read('out/config.json')));
      expect(saved).toMatchObject(config);
    }
  });

  it.each([
    ['roberta', 50_265],
    ['xlm-roberta', 30_522],
  ])('of %s has by default the vocabulary of transformers', async (type, words) => {
    const config = { model_type: type, vocab_size: undefined };
    await expect(load(tiny('roberta'), 'classes', {}, { config })).rejects.toThrow(`[${words}, `);
  });

  it('of ModernBERT is frozen except its last module, as in PEFT, if the checkpoint has the others', async () => {
    const rename = (key: string) => (key.startsWith('classifier') ? undefined : key);
    const of = (name: string) => ({ architectures: [`ModernBert${name}`] });
    const masked = await load(tiny('modernbert'), 'classes', {}, { rename, config: of('ForMaskedLM') });
    expect(masked.pretrainedHead).toEqual(['head.dense', 'head.norm']);
    expect(masked.head).toEqual(['classifier']);
    const { layers } = activeAdapter(attach(masked, lora({ r: 2, targetModules: 'all-linear' })));
    expect(layers).toHaveProperty(['head.dense']);
    const bare = await load(tiny('modernbert'), 'classes', {}, { rename, config: of('Model') });
    expect(bare.head).toEqual(['head', 'classifier']);
    const other = await load(tiny('modernbert'), 'tokens', { task: 'sequence-classification' });
    expect(other.pretrainedHead).toBe(false);
    const trained = activeAdapter(attach(other, lora({ r: 2 }))).values;
    expect(new Set(floats(tensorAt(trained, 'head.norm.weight')))).toEqual(new Set([1]));
  });

  it('is rejected for a task for which the network has no head', async () => {
    const causal = { task: 'causal-lm' } as const;
    for (const network of ['distilbert', 'roberta', 'electra', 'deberta-v3', 'mpnet', 'modernbert'] as const) {
      const refused = load(tiny(network), 'classes', causal);
      await expect(refused, network).rejects.toThrow(UnsupportedError);
      await expect(refused).rejects.toThrow(
        /has no head for the task 'causal-lm'; it has sequence-classification, token-classification, feature-extraction$/,
      );
    }
    const odd = load(tiny('roberta'), 'classes', { task: 'translation' as never });
    await expect(odd).rejects.toThrow(/option 'task' is 'translation'; expected \("sequence-classification" /);
    const labelled = load(tiny('llama'), 'next', { numLabels: 3 });
    await expect(labelled).rejects.toThrow(ConfigError);
    await expect(labelled).rejects.toThrow(/'numLabels' is not for the task 'causal-lm'/);
    const headless = load(tiny('qwen2'), 'next', {}, { rename: (key) => (key === 'lm_head.weight' ? undefined : key) });
    await expect(headless).rejects.toThrow(/weight 'lm_head\.weight' is missing/);
  });
});
