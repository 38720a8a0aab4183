import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as core from '@peftjs/core';
import { referenceExecutor, toyEvaluationData, toyModel, toyTrainingData } from '@peftjs/conformance';
import * as peftjs from 'peftjs';
import { bertInMemory } from '../models/bert-tiny.js';
import { characterDecoder } from '../models/characters.js';

/** Every function that a user can import from the two entries. */
export const exported = Object.fromEntries(
  Object.entries({ ...core, ...peftjs }).filter(([, value]) => typeof value === 'function'),
) as Readonly<Record<string, (...given: unknown[]) => unknown>>;

/** A folder in which a function may write to the disk if it is called without a storage. */
export const folder = mkdtempSync(join(tmpdir(), 'peftjs-arguments-'));

const { attach, lora } = peftjs;
const executor = await referenceExecutor();
const model = toyModel();
const lowRank = lora({ r: 2 });
const bert = bertInMemory();
const network = await peftjs.fromPretrained('bert', { storage: bert });
const characters = await characterDecoder('gpt2', 'abc');
const decoder = await peftjs.fromPretrained('tiny', { storage: characters, task: 'causal-lm' });
const merged = peftjs.mergeAndUnload(attach(network, lowRank));
const [data, judged] = [toyTrainingData(1, 1), toyEvaluationData(1, 1)];
const rows = [
  { text: 'good', label: 1 },
  { text: 'bad', label: 0 },
  { text: 'fine', label: 1 },
  { text: 'poor', label: 0 },
];
const dataSet = await peftjs.createDataSet({ name: 'toy', kind: 'classification', classes: ['no', 'yes'], rows });
const encoded = peftjs.encodeRows(dataSet, network.tokenizer, { maxTokens: 8 });
const language = await peftjs.languageSet('talk', [{ prompt: 'a', completion: 'b' }]);
const causalTokenizer = { tokenIds: () => [1, 2], eosTokenId: 0 };
const answers = await peftjs.languageSet('pairs', [{ prompt: 'a', chosen: 'b', rejected: 'c' }]);
const preferences = peftjs.encodePreferences(answers, causalTokenizer, { maxTokens: 8 });
const causal = peftjs.encodeLanguage(language, causalTokenizer, { maxTokens: 8 });
const messages = [{ role: 'user', content: 'a' }] as const;
const graph = await peftjs.exportOnnx(merged);
const table = new TextEncoder().encode(
  `text\tlabel\n${rows.map(({ text, label }) => `${text}\tc${label}`).join('\n')}`,
);
const files = peftjs.memoryStorage(
  new Map([
    ['rows.tsv', table],
    ['talk.jsonl', new TextEncoder().encode('{"prompt":"a","completion":"b"}\n'.repeat(4).replace('"b"', '"c"'))],
  ]),
);

/** Returns a new model with an adapter, because most functions change it. */
const one = (): core.PeftModel => attach(model, lowRank);
const two = (): core.PeftModel => {
  const peft = one();
  core.addAdapter(peft, lowRank, { adapterName: 'second' });
  return peft;
};
const mergedPeft = (): core.PeftModel => {
  const peft = one();
  core.mergeAdapter(peft);
  return peft;
};
const saved = core.memoryStorage();
await core.savePretrained(one(), 'adapter', { storage: saved });
let snapshot: peftjs.TrainingSnapshot | undefined;
await core.train(one(), toyTrainingData(1, 2), {
  executor,
  epochs: 1,
  learningRate: 1e-3,
  saveEvery: 1,
  onSnapshot: (taken) => void (snapshot = taken),
});

const pairs = await peftjs.createDataSet({
  name: 'pairs',
  kind: 'pairs',
  classes: [],
  rows: [{ texts: ['a', 'b'] }, { texts: ['c', 'd'] }],
});
const lengths = (texts: readonly string[]) =>
  Promise.resolve({ data: new Float32Array(texts.length).fill(1), dims: [texts.length, 1] });

const noop = () => undefined;
const loading = { methods: [lora], storage: saved, adapterName: 'other' };
const training = { executor, epochs: 1, learningRate: 1e-3 };
const onBert = { storage: bert, localFilesOnly: true };
const exporting = { ...onBert, source: 'bert', sourceStorage: bert, storage: core.memoryStorage() };
const writing = { sourceStorage: characters, storage: core.memoryStorage() };

/** Valid arguments of a function: those before its options, made for each call, and its options if it has any. */
interface Valid {
  readonly given: () => unknown[];
  readonly options?: object;
}

const call = (given: () => unknown[], options?: object): Valid => (options ? { given, options } : { given });

/** Functions that take options alone, each of which has a default. */
const withOptions = (names: readonly string[]) =>
  Object.fromEntries(names.map((name) => [name, call(() => [], {})] as const));

/** The arguments of every exported function. */
export const valid: Readonly<Record<string, Valid>> = {
  PeftError: call(() => ['PEFT_X', 'a message', {}]),
  onWarning: call(() => [noop]),
  hostTensor: call(() => [new Float32Array(2), [2]]),
  diskStorage: call(() => []),
  memoryStorage: call(() => [new Map()]),
  attach: call(() => [model, lowRank], {}),
  activeAdapter: call(() => [one()]),
  withAdapter: call(() => [one(), {}]),
  addAdapter: call(() => [one(), lowRank], { adapterName: 'other' }),
  deleteAdapter: call(() => [one(), 'default']),
  disableAdapter: call(() => [one(), noop]),
  fullPrecision: call(() => [one()]),
  mergeAdapter: call(() => [one()], {}),
  mergeAndUnload: call(() => [one()], {}),
  setAdapter: call(() => [one(), 'default']),
  unload: call(() => [one()]),
  unmergeAdapter: call(() => [mergedPeft()]),
  activeRanks: call(() => [core.activeAdapter(one()).layers, core.activeAdapter(one()).values]),
  countParameters: call(() => [one()]),
  describeParameters: call(() => [one()]),
  describeRows: call(() => [dataSet], { reported: dataSet }),
  mostFrequentScores: call(() => [{ train: dataSet, dev: dataSet, metrics: { primary: 'none', metrics: {} } }]),
  loadAdapter: call(() => [one(), 'adapter'], loading),
  loadPretrained: call(() => [model, 'adapter'], loading),
  savePretrained: call(() => [one(), join(folder, 'adapter')], { storage: core.memoryStorage() }),
  convertToLora: call(() => [one()], { method: lora, rank: 1 }),
  getPeftModelStateDict: call(() => [one()], {}),
  hotswapAdapter: call(() => [one(), 'adapter'], { ...loading, adapterName: 'default' }),
  setPeftModelStateDict: call(() => [one(), core.getPeftModelStateDict(one())], {}),
  addWeightedAdapter: call(() => [two()], { adapters: ['default', 'second'], weights: [1, 1], adapterName: 'sum' }),
  train: call(() => [one(), data], training),
  jsonLines: call(() => [noop]),
  calibrate: call(() => [model, lora({ initLoraWeights: 'eva' }), data], { executor }),
  evaluate: call(() => [one(), judged], { executor }),
  fitTemperature: call(() => [one(), judged], { executor }),
  predict: call(() => [one(), judged.batches], { executor }),
  ...withOptions(['constant', 'cosine', 'linear', 'adafactor', 'adamW', 'lion', 'sgd', 'crossEntropy']),
  ...withOptions(['binaryCrossEntropy', 'contrastive', 'triplet', 'multipleNegativesRanking']),
  ...withOptions(['dpo', 'orpo', 'distillation', 'embeddingDistillation']),
  withInputs: call(() => [data, { teacher: [Float32Array.of(1)] }]),
  withReference: call(() => [peftjs.preferenceEvaluation(preferences, { batchSize: 1 }), decoder], { executor }),
  nextToken: call(() => []),
  squaredError: call(() => []),
  tokenCrossEntropy: call(() => []),
  cosineSimilarity: call(() => []),
  ...withOptions(peftjs.methods.map(exportedName)),
  readSnapshot: call(() => [peftjs.writeSnapshot(snapshot as peftjs.TrainingSnapshot), 'a snapshot']),
  writeSnapshot: call(() => [snapshot, {}]),
  fromPretrained: call(() => ['bert'], onBert),
  generate: call(() => [decoder, [[1, 2]]], { executor, maxNewTokens: 1 }),
  generateChat: call(() => [decoder, messages], { executor, maxNewTokens: 1, template: peftjs.chatML }),
  generateText: call(() => [decoder, 'a'], { executor, maxNewTokens: 1 }),
  openGenerator: call(() => [decoder], { executor }),
  pushToHub: call(() => [join(folder, 'missing'), 'me/adapter'], {}),
  saveGguf: call(() => [decoder, join(folder, 'model.gguf')], { ...writing, dtype: 'q8' }),
  saveGgufAdapter: call(() => [attach(decoder, lowRank), join(folder, 'adapter.gguf')], { ...writing, rank: 1 }),
  saveMerged: call(() => [merged, join(folder, 'merged')], exporting),
  saveOnnx: call(() => [merged, new Uint8Array(1), join(folder, 'web')], { ...exporting, maxTokens: 8 }),
  causalEvaluation: call(() => [causal], { batchSize: 2 }),
  chatML: call(() => [messages, { addGenerationPrompt: true }]),
  createDataSet: call(() => [], { name: 'toy', kind: 'classification', classes: ['no', 'yes'], rows }),
  encodeLanguage: call(() => [language, causalTokenizer], { maxTokens: 8 }),
  encodePreferences: call(() => [answers, causalTokenizer], { maxTokens: 8 }),
  preferenceEvaluation: call(() => [preferences], { batchSize: 2, beta: 0.2 }),
  sliceCausal: call(() => [causal, 1, 1]),
  encodeRows: call(() => [dataSet, network.tokenizer], { maxTokens: 8 }),
  encodeTexts: call(() => [['a text'], network.tokenizer], { maxTokens: 8 }),
  evaluationData: call(() => [encoded], { batchSize: 2 }),
  inputBatches: call(() => [[{ ids: Int32Array.of(1, 2) }]], { batchSize: 2 }),
  languageSet: call(() => ['talk', [{ text: 'a text' }]]),
  mineHardNegatives: call(() => [pairs], { embed: lengths, numNegatives: 1 }),
  readLanguageTask: call(() => [], { train: 'talk.jsonl', storage: files }),
  readTable: call(() => [table], { path: 'rows.tsv' }),
  readTask: call(() => [], { train: 'rows.tsv', dev: 'rows.tsv', storage: files }),
  retrievalMetrics: call(() => [[{ ranked: [1, 2], relevant: [1] }]]),
  semanticSearch: call(() => [[[1, 0]], [[0, 1]]], {}),
  splitSelection: call(() => [dataSet], { share: 0.5, seed: 1 }),
  trainingData: call(() => [encoded], { batchSize: 2, seed: 1 }),
  pipeline: call(() => ['text-classification', 'bert'], { ...onBert, executor }),
  compiled: call(() => [], {}),
  eager: call(() => [], { backend: 'cpu' }),
  exportOnnx: call(() => [merged], {}),
  exportOnnxFiles: call(() => [merged], {}),
  checkOnnx: call(() => [graph, merged], { maxTokens: 2 }),
  listBackends: call(() => []),
};

function exportedName(value: unknown): string {
  return Object.entries(exported).find(([, each]) => each === value)?.[0] ?? '';
}
