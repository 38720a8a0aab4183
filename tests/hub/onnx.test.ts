// ONNX graphs on the hub, in a repository as transformers.js has them.
import { memoryStorage, onWarning } from '@peftjs/core';
import { fromPretrained } from '@peftjs/models';
import { fromOnnx, saveOnnxGraph } from '@peftjs/onnx';
import { onnxFormats } from '@peftjs/onnx/formats';
import { beforeEach, expect, it } from 'vitest';
import { bertFiles } from '../models/bert-tiny.js';
import { fixture } from '../models/onnx.js';
import { bertRepo, filesAsked, FIRST, SECOND, text, useHub } from './harness.js';

const use = useHub();
const GRAPH = 'peftjs-tests/bert-onnx';
const { 'model.safetensors': _, ...beside } = bertFiles;

beforeEach(() => {
  const graphs = { 'onnx/model.onnx': fixture('bert-traced.onnx'), 'onnx/model_quantized.onnx': new Uint8Array(9) };
  use.hub.repos.push(bertRepo({ name: GRAPH, commits: { [FIRST]: { ...beside, ...graphs } } }));
});

it.each([
  ['fromOnnx by id', () => fromOnnx(GRAPH)],
  ['fromOnnx by file', () => fromOnnx(`${GRAPH}/onnx/model.onnx`)],
  ['fromPretrained', () => fromPretrained(GRAPH, { formats: onnxFormats() })],
])('%s downloads the graph, its settings and its tokenizer, and writes them for transformers.js', async (_, load) => {
  const storage = memoryStorage();
  const model = await load();
  await saveOnnxGraph(model, 'web', { storage });
  expect(filesAsked(use.hub).sort()).toEqual(['config.json', 'onnx/model.onnx', 'tokenizer.json']);
  expect(storage.files.get('web/onnx/model.onnx')).toEqual(fixture('bert-traced.onnx'));
});

it('of the weights of an unknown network and its graph, only the graph is downloaded', async () => {
  const config = JSON.parse(new TextDecoder().decode(bertFiles['config.json'])) as object;
  const files = {
    ...bertFiles,
    'config.json': text(JSON.stringify({ ...config, model_type: 'vit' })),
    'onnx/model.onnx': fixture('bert-traced.onnx'),
  };
  use.hub.repos.push(bertRepo({ name: 'peftjs-tests/vit', commits: { [FIRST]: files } }));
  const warnings: string[] = [];
  const restore = onWarning((warning) => warnings.push(warning));
  const model = await fromPretrained('peftjs-tests/vit', { formats: onnxFormats() }).finally(restore);
  expect(warnings).toEqual([expect.stringContaining('an ONNX graph is read in its place, onnx/model.onnx')]);
  expect(model.graph).toMatchObject({ file: 'onnx/model.onnx' });
  expect(filesAsked(use.hub).sort()).toEqual(['config.json', 'onnx/model.onnx', 'tokenizer.json']);
});

it.each([GRAPH, `${GRAPH}/onnx/model.onnx`])(
  'an interrupted update of %s leaves the earlier download',
  async (source) => {
    await fromOnnx(source);
    const commits = {
      [SECOND]: { ...beside, 'tokenizer.json': text('{}'), 'onnx/model.onnx': fixture('bert-traced.onnx') },
    };
    use.hub.repos.splice(-1, 1, bertRepo({ name: GRAPH, refs: { main: SECOND }, commits }));
    use.hub.disturb(/tokenizer\.json$/, { status: 404 });
    await expect(fromOnnx(source)).rejects.toMatchObject({ status: 404 });
    expect((await fromOnnx(source, { localFilesOnly: true })).commit).toBe(FIRST);
  },
);
