import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { attach, memoryStorage, savePretrained } from '@peftjs/core';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Ended } from '../cli/command.js';
import { peftBench } from '../cli/in-process.js';
import { BERT, bertRepo, filesAsked, FIRST, useHub } from './harness.js';

const use = useHub();
const ADAPTER = 'peftjs-tests/bert-lora';

/** A LoRA for the BERT on the hub, with a head of four classes. */
async function adapterFiles(): Promise<Record<string, Uint8Array>> {
  const storage = memoryStorage();
  const model = await fromPretrained(BERT, { numLabels: 4 });
  await savePretrained(attach(model, lora({ r: 2 }), { seed: 1 }), 'adapter', { storage });
  return Object.fromEntries([...storage.files].map(([path, bytes]) => [path.replace('adapter/', ''), bytes]));
}

beforeEach(async () => {
  const files = await adapterFiles();
  use.hub.repos.push(bertRepo({ name: ADAPTER, commits: { [FIRST]: files } }));
  use.hub.seen.length = 0;
});

const run = (...args: string[]): Promise<Ended> => peftBench(args, { cwd: use.home });

describe('peft-bench accepts hub ids', () => {
  it('to inspect a model, and does not download it again', async () => {
    const { code, stdout, stderr } = await run('inspect', BERT);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toContain(`${BERT}: `);
    expect(stdout).toMatch(/classifier +linear +head/);
    process.env.HF_HUB_OFFLINE = '1';
    use.hub.seen.length = 0;
    expect(await run('inspect', BERT)).toEqual({ code, stdout, stderr });
    expect(use.hub.seen).toEqual([]);
  });

  it('to inspect an adapter, and only downloads what it shows', async () => {
    const { code, stdout } = await run('inspect', ADAPTER);
    expect(code).toBe(0);
    expect(stdout).toContain(`LORA adapter for ${BERT}, `);
    expect(stdout).toMatch(/bert\.encoder\.layer\.0\.attention\.self\.query +2 +128/);
    expect(filesAsked(use.hub).sort()).toEqual(['adapter_config.json', 'adapter_model.safetensors']);
  });

  it.each([
    ['peft', ['README.md', 'adapter_config.json', 'adapter_model.safetensors']],
    ['merged', ['README.md', 'config.json', 'model.safetensors', 'tokenizer.json']],
    ['onnx', ['README.md', 'config.json', 'onnx', 'tokenizer.json', 'tokenizer_config.json']],
  ])('to export an adapter as %s, with a model from the hub', async (format, files) => {
    const { code, stderr } = await run('export', ADAPTER, '--format', format, '--out', 'out');
    expect([code, stderr]).toEqual([0, expect.stringMatching(/^wrote the .* to out\nnext: .*\bout\b.*\n$/)]);
    expect((await readdir(join(use.home, 'out'))).sort()).toEqual(files);
    if (format === 'peft') return;
    const config = JSON.parse(await readFile(join(use.home, 'out/config.json'), 'utf8')) as Record<string, unknown>;
    expect(config).toMatchObject({ num_labels: 4 });
  });

  it('to train on a model, which the adapter then names', async () => {
    const rows = Array.from({ length: 20 }, (_, row) => `${row % 2 ? 'good' : 'bad'}\tnumber ${row}`);
    await writeFile(join(use.home, 'mine.tsv'), ['label\ttext', ...rows].join('\n'));
    const files = ['--train', 'mine.tsv', '--dev', 'mine.tsv', '--epochs', '1'];
    const { code } = await run('train', '--model', BERT, ...files, '--method', 'lora', '--out', 'mine');
    expect(code).toBe(0);
    expect((await run('inspect', 'mine')).stdout).toContain(`LORA adapter for ${BERT}, `);
  });

  it.each([
    ['inspect peftjs-tests/none', /there is no folder 'peftjs-tests\/none', and on the hub .* answers 401/],
    ['export peftjs-tests/none --format peft --out out', /there is no folder 'peftjs-tests\/none', and on the hub/],
    [
      `export ${BERT} --format peft --out out`,
      /bert-tiny: expected an adapter, a folder or hub id with adapter_config\.json/,
    ],
    ['run --model peftjs-tests/none --out out', /there is no folder 'peftjs-tests\/none', and on the hub/],
  ])('and exits with 2 and one line for %s', async (line, message) => {
    const { code, stdout, stderr } = await run(...line.split(' '));
    const lines = stderr.trim().split('\n').filter((text) => !text.startsWith('peft-bench: loading')); // oxfmt-ignore
    expect(lines).toEqual([expect.stringMatching(message)]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  });
});
