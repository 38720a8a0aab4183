// From the ONNX folder that transformers.js serves, through an adapter, to a folder that it serves.
import { copyFile, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { relativeDistance } from '@peftjs/conformance';
import { memoryStorage } from '@peftjs/core';
import { fromPretrained } from '@peftjs/models';
import { fromOnnx } from '@peftjs/onnx';
import { onnxFormats } from '@peftjs/onnx/formats';
import { nodeProto, portProto } from '../../packages/onnx/src/write/protos.js';
import { modelProto } from '../../packages/onnx/test/model-proto.js';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { compiled, fromPretrained as open, pipeline } from 'peftjs';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { bertFolder } from '../models/bert-tiny.js';
import { fixture } from '../models/onnx.js';
import { peftBench } from './in-process.js';
import { served } from './served.js';
import { tinyTask } from './tiny-task.js';

const folder = temporaryFolder();
const path = (name: string): string => join(folder, name);

async function json(file: string): Promise<unknown> {
  return JSON.parse(await readFile(path(file), 'utf8'));
}

/** Trains an adapter. */
async function trained(model: string, out: string) {
  const task = (await tinyTask(folder, 32)).map((flag) => (flag === bertFolder ? path(model) : flag));
  return peftBench(['train', '--method', 'lora', ...task, '--out', path(out)]);
}

beforeAll(async () => {
  await served(path('model'), { 'model.onnx': fixture('bert-traced.onnx') });
});

describe('a folder with an ONNX graph', () => {
  it('is trained, and the adapter predicts', async () => {
    expect(await trained('model', 'adapter')).toMatchObject({ code: 0 });
    const { code, stdout } = await peftBench(['predict', path('adapter'), 'a cat', '--json']);
    expect(stdout).toMatch(/"label":"(?:bad|good)"/);
    expect(code).toBe(0);
  });

  it('is exported as the same graph with merged weights, for transformers.js', async () => {
    const out = path('tuned');
    const { code, stderr } = await peftBench(['export', path('adapter'), '--format', 'onnx', '--out', out]);
    expect(stderr).toMatch(/as the ONNX graph that it was read from, .*its outputs (?:equal|are within)/);
    expect(code).toBe(0);
    expect((await readdir(out)).sort()).toEqual([
      'README.md',
      'config.json',
      'onnx',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    expect(await json('tuned/config.json')).toMatchObject({
      architectures: ['BertForSequenceClassification'],
      id2label: { 0: 'bad', 1: 'good' },
      'transformers.js_config': { dtype: 'fp32' },
    });
  });

  it('predicts after that what its adapter did', async () => {
    const texts = ['a cat is number 3', 'a dog is number 4', 'a bird', '--json'];
    const [adapter, tuned, file] = await Promise.all(
      ['adapter', 'tuned', 'tuned/onnx/model.onnx'].map((source) => peftBench(['predict', path(source), ...texts])),
    );
    const scores = ({ stdout }: { stdout: string }) => stdout.match(/(?<="score":)[\d.]+/g)?.map(Number) ?? [];
    expect(scores(tuned as never)).toHaveLength(3);
    expect(relativeDistance(scores(tuned as never), scores(adapter as never))).toBeLessThan(1e-5);
    expect(file?.stdout).toEqual(tuned?.stdout);
  });

  it('is opened by peftjs, as the base of its adapter too', async () => {
    expect((await open(path('model'))).graph).toMatchObject({ file: 'onnx/model.onnx' });
    const classify = await pipeline('text-classification', path('adapter'), { executor: compiled({ threads: 1 }) });
    expect((await classify('a cat'))[0]?.label).toMatch(/^(?:bad|good)$/);
    await classify.dispose();
  });

  it('is described by inspect, with the modules that methods adapt', async () => {
    const { stdout } = await peftBench(['inspect', path('model')]);
    expect(stdout).toMatch(/^input +input_ids +int64/m);
    expect(stdout).toMatch(/^bert\.encoder\.layer\.0\.attention\.self\.query +linear +attention\.query +32 -> 32$/m);
  });

  it('is trained as the file that is named', async () => {
    expect(await trained('model/onnx/model.onnx', 'of-file')).toMatchObject({ code: 0 });
    expect(await json('of-file/adapter_config.json')).toMatchObject({
      base_model_name_or_path: path('model/onnx/model.onnx'),
    });
  });
});

describe('the files of a folder', () => {
  it('in float16: the merged weights are rounded, and the error is printed', async () => {
    await served(path('half'), { 'model_fp16.onnx': fixture('distilbert-half.onnx') }, 'distilbert');
    expect(await trained('half', 'of-half')).toMatchObject({ code: 0 });
    const { stderr } = await peftBench(['export', path('of-half'), '--format', 'onnx', '--out', path('tuned-half')]);
    expect(stderr).toMatch(/with merged weights as its graph has them, rounded by at most \d\.\de-\d/);
    expect(await readdir(path('tuned-half/onnx'))).toEqual(['model_fp16.onnx']);
    expect(await json('tuned-half/config.json')).toMatchObject({ 'transformers.js_config': { dtype: 'fp16' } });
  });

  it('with weights beside the graph are written so', async () => {
    const data = fixture('distilbert-external.onnx_data');
    await served(
      path('apart'),
      { 'model.onnx': fixture('distilbert-external.onnx'), 'model.onnx_data': data },
      'distilbert',
    );
    expect(await trained('apart', 'of-apart')).toMatchObject({ code: 0 });
    const { code } = await peftBench(['export', path('of-apart'), '--format', 'onnx', '--out', path('tuned-apart')]);
    expect(code).toBe(0);
    expect((await readdir(path('tuned-apart/onnx'))).sort()).toEqual(['model.onnx', 'model.onnx_data']);
    expect(await json('tuned-apart/config.json')).toMatchObject({
      'transformers.js_config': { use_external_data_format: { 'model.onnx': 1 } },
    });
  });

  it('in few bits only are refused with what to get', async () => {
    const quantized = modelProto(
      [
        [1, nodeProto('DynamicQuantizeLinear', ['input_ids'], 'logits')],
        [11, portProto('input_ids', ['batch', 'tokens'])],
        [12, portProto('logits', ['batch', 2])],
      ],
      17,
    );
    await served(path('few'), { 'model_quantized.onnx': quantized });
    const { code, stderr } = await trained('few', 'of-few');
    expect(stderr).toMatch(/weights in few bits, which cannot be trained: read the graph in fp32 or fp16/);
    expect(code).toBe(2);
  });

  it('in safetensors come first', async () => {
    await served(path('both'), { 'model.onnx': fixture('bert-traced.onnx') });
    await copyFile(join(bertFolder, 'model.safetensors'), path('both/model.safetensors'));
    const [both, graph] = await Promise.all([
      fromPretrained(path('both'), { formats: onnxFormats() }),
      fromOnnx(path('both')),
    ]);
    expect(both.graph).toBeUndefined();
    expect(graph.graph).toMatchObject({ file: 'onnx/model.onnx' });
  });

  it.each([
    ['is read where the network of the safetensors is not known', { 'model.onnx': fixture('bert-traced.onnx') }, 0],
    ['is what a folder of an unknown network lacks', {}, 2],
  ])('%s', async (title, graphs, code) => {
    const name = title.replaceAll(' ', '-');
    await served(path(name), graphs);
    await copyFile(join(bertFolder, 'model.safetensors'), path(`${name}/model.safetensors`));
    const config = (await json(`${name}/config.json`)) as object;
    await writeFile(path(`${name}/config.json`), JSON.stringify({ ...config, model_type: 'vit' }));
    const warned = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
    const run = await trained(name, `of-${name}`);
    const said = `${run.stderr}${warned.mock.calls.join('\n')}`;
    warned.mockRestore();
    expect(said).toMatch(
      code === 0
        ? /config\.json has a network that is not known; an ONNX graph is read in its place, onnx\/model\.onnx/
        : /unknown 'model_type' "vit"; known ones are .*: optimum-cli export onnx --model \S+ FOLDER/,
    );
    expect(run.code).toBe(code);
  });
});

describe('fromOnnx', () => {
  it.each([
    ['subfolder', { subfolder: 'graphs' }, 'graphs/model.onnx'],
    ['modelFileName', { modelFileName: 'encoder' }, 'onnx/encoder.onnx'],
  ])('finds the file by %s, as transformers.js does', async (_, options, file) => {
    const storage = memoryStorage(new Map([[`at/${file}`, fixture('bert-traced.onnx')]]));
    expect((await fromOnnx('at', { storage, ...options })).graph.file).toBe(file);
  });

  it('takes labels and what outputs mean from config.json, for the head of the graph only', async () => {
    const config = {
      model_type: 'bert',
      id2label: { 0: 'a', 1: 'b', 2: 'c' },
      problem_type: 'multi_label_classification',
    };
    const loaded = (graph: string) =>
      fromOnnx('at', {
        numLabels: 3,
        storage: memoryStorage(
          new Map([
            ['at/onnx/model.onnx', fixture(graph)],
            ['at/config.json', new TextEncoder().encode(JSON.stringify(config))],
          ]),
        ),
      });
    expect(await loaded('bert-traced.onnx')).toMatchObject({
      labels: ['a', 'b', 'c'],
      problemType: 'multi_label_classification',
    });
    expect((await loaded('distilbert-features.onnx')).labels).toBeUndefined();
  });

  it('says that a folder has no graph', async () => {
    await expect(fromOnnx(bertFolder)).rejects.toThrow(
      /no onnx\/model.onnx or model.onnx in .*; fromPretrained reads it/,
    );
  });
});

it('fromPretrained alone says how to open a graph', async () => {
  await expect(fromPretrained('model.onnx')).rejects.toThrow(/read it with fromOnnx of @peftjs\/onnx/);
  await expect(fromPretrained(path('model'))).rejects.toThrow(/the ONNX graph is read by fromOnnx of @peftjs\/onnx/);
});
