import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { relativeDistance } from '@peftjs/conformance';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { bertFolder } from '../models/bert-tiny.js';
import { tensorFlow } from '../executors/built-tensorflow.js';
import { findExecutor } from '../parity/executors.js';
import { peftBench } from './command.js';
import { peftBench as inThisProcess } from './in-process.js';

interface Result {
  readonly id: string;
  readonly engine: { readonly backend: string };
  readonly versions: Readonly<Record<string, string>>;
  readonly history: readonly { readonly loss: number }[];
}

const { skipped: noWebgpu } = await findExecutor('compiled on WebGPU');
const hasNvidia = existsSync('/dev/nvidiactl');
/** A path where the Vulkan loader finds no driver. */
const withoutVulkan = { VK_DRIVER_FILES: '/none.json', VK_ICD_FILENAMES: '/none.json' };

const folder = temporaryFolder();
let small: string[] = [];
beforeAll(async () => {
  const rows = Array.from({ length: 40 }, (_, row) => (row % 2 === 0 ? `good\tgreat ${row}` : `bad\tawful ${row}`));
  const [train, dev] = [join(folder, 'few.tsv'), join(folder, 'few-dev.tsv')];
  for (const file of [train, dev]) await writeFile(file, ['label\ttext', ...rows].join('\n'));
  const data = ['--train', train, '--dev', dev, '--epochs', '1', '--max-tokens', '8'];
  small = ['--model', bertFolder, ...data, '--method', 'lora', '--budget', 'r=2'];
});

/** The results of a run in a folder of its own. */
async function resultOf(run: typeof peftBench, ...flags: string[]): Promise<Result> {
  const out = await mkdtemp(join(folder, 'run-'));
  const { code, stderr } = await run(['run', ...small, ...flags, '--out', out]);
  expect(stderr).toContain('report.html');
  expect(code).toBe(0);
  const [file = ''] = await readdir(join(out, 'results'));
  return JSON.parse(await readFile(join(out, 'results', file), 'utf8')) as Result;
}

/** Runs on a missing backend, which must print one line and write nothing. */
async function expectRefusal(backend: string, reason: RegExp): Promise<void> {
  const out = join(folder, `no-${backend}`);
  const { code, stderr } = await peftBench(['run', ...small, '--backend', backend, '--out', out], {
    env: withoutVulkan,
  });
  expect(stderr.trim().split('\n')).toEqual([expect.stringMatching(reason)]);
  expect(code).toBe(2);
  expect(await readdir(folder)).not.toContain(`no-${backend}`);
}

describe.skipIf(process.platform !== 'linux')('a machine without a GPU (drivers are hidden on Linux only)', () => {
  it('makes `run` print one line', async () => {
    await expectRefusal(
      'webgpu',
      /^peft-bench: ONNX Runtime does not start on 'webgpu' here: .*; it needs a GPU and its driver for Vulkan/,
    );
  });

  it('is reported by `doctor` only', async () => {
    const { code, stdout, stderr } = await peftBench(['doctor'], { env: withoutVulkan });
    expect(stdout).toMatch(/^ {2}no {3}compiled on webgpu: .* it needs a GPU and its driver for Vulkan/m);
    expect(stdout).toMatch(/^ {2}yes {2}compiled on cpu$/m);
    expect(stdout).not.toMatch(/eager on webgpu|tensorrt/); // which --backend does not accept
    expect([stderr, code]).toEqual(['', 0]);
  });
});

describe.skipIf(hasNvidia)('a machine without CUDA (skipped if this one has an NVIDIA GPU)', () => {
  it('makes `run` print one line', async () => {
    await expectRefusal('cuda', /does not start on 'cuda' here: .*; it needs CUDA, and its libraries: npm rebuild/);
  });
});

describe.skipIf(noWebgpu !== undefined)(`peft-bench on WebGPU${noWebgpu ? ` (${noWebgpu})` : ''}`, () => {
  const { execArgv } = process;
  beforeAll(() => {
    process.execArgv = ['--import', 'tsx', '--conditions', '@peftjs/source']; // `run` starts a worker from its source
  });
  afterAll(() => {
    process.execArgv = execArgv;
  });

  it('is listed by `doctor`', async () => {
    expect((await peftBench(['doctor'])).stdout).toMatch(/^ {2}yes {2}compiled on webgpu$/m);
  });

  it('takes the same steps as on the CPU, as another trial', async () => {
    const [onDevice, onProcessor] = [
      await resultOf(inThisProcess, '--backend', 'webgpu'),
      await resultOf(inThisProcess),
    ];
    expect([onDevice.engine.backend, onProcessor.engine.backend]).toEqual(['webgpu', 'cpu']);
    expect(onDevice.id).not.toBe(onProcessor.id);
    const losses = ({ history }: Result): number[] => history.map(({ loss }) => loss);
    expect(losses(onDevice).length).toBeGreaterThan(0);
    expect(relativeDistance(losses(onDevice), losses(onProcessor))).toBeLessThan(1e-4);
  });

  it('trains an adapter on a model with 8-bit weights', async () => {
    const adapter = join(folder, 'adapter');
    const flags = ['--backend', 'webgpu', '--dtype', 'q8', '--out', adapter];
    const { code, stderr } = await inThisProcess(['train', ...small, ...flags]);
    expect(stderr).toContain('trainable params');
    expect(code).toBe(0);
    expect(await readdir(adapter)).toContain('adapter_model.safetensors');
  });
});

describe.skipIf(tensorFlow.versions === undefined)(`peft-bench on TensorFlow (${tensorFlow.where})`, () => {
  it('names the library and its binding in the result file only', async () => {
    const { engine, versions } = await resultOf(peftBench, '--engine', 'eager', '--backend', 'tensorflow');
    expect(engine.backend).toBe('tensorflow');
    expect(versions).toMatchObject(tensorFlow.versions ?? {});
    const elsewhere = await resultOf(peftBench, '--engine', 'eager', '--backend', 'wasm');
    for (const name of Object.keys(tensorFlow.versions ?? {})) expect(elsewhere.versions).not.toHaveProperty([name]);
  });
});
