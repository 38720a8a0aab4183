import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { engineFromFlags } from '../../packages/cli/src/registry/executors.js';
import type { GpuFindings } from '../../packages/cli/src/run/check-gpus.js';
import { ask, endWorker, startWorker } from '../../packages/cli/src/run/processes.js';
import { peftBench } from './command.js';

/** A Vulkan driver that computes on the processor; Debian's chromium-common has it. */
const SWIFTSHADER = '/usr/lib/chromium/vk_swiftshader_icd.json';
/** Folders in which Debian's libvulkan1 puts the loader of Vulkan drivers; Chromium's own copy is out of reach for Node. */
const LIBRARIES = ['x86_64', 'aarch64'].map((arch) => `/usr/lib/${arch}-linux-gnu`);
const hasLoader = LIBRARIES.some((folder) => existsSync(`${folder}/libvulkan.so.1`));
const hasSwiftShader = process.platform === 'linux' && existsSync(SWIFTSHADER) && hasLoader;
const onSwiftShader = { VK_ICD_FILENAMES: SWIFTSHADER, VK_DRIVER_FILES: SWIFTSHADER };
const withoutVulkan = { VK_ICD_FILENAMES: '/none.json', VK_DRIVER_FILES: '/none.json' };

const title = `doctor --gpu on SwiftShader${hasSwiftShader ? '' : ` (skipped: it needs Debian's chromium and libvulkan1)`}`;
describe.skipIf(!hasSwiftShader)(title, () => {
  it('passes on WebGPU, and says that the device is a software device', { timeout: 600_000 }, async () => {
    const { code, stdout, stderr } = await peftBench(['doctor', '--gpu', '--json'], { env: onSwiftShader });
    expect(stderr).toMatch(/^peft-bench: compiled on webgpu: checking$/m);
    const report = JSON.parse(stdout) as GpuFindings & { readonly verdict: string };
    const webgpu = report.backends.find(({ backend }) => backend === 'webgpu');
    expect(webgpu).toMatchObject({ status: 'passed', software: true, drivers: ['libvk_swiftshader.so'] });
    expect(webgpu?.checks?.length).toBeGreaterThan(1);
    expect(webgpu?.steps?.small).toHaveProperty('medianMs');
    expect(report.cpu.steps.minilm).toHaveProperty('medianMs');
    if (report.backends.every(({ status }) => status !== 'failed')) expect(code).toBe(0);
  });
});

const hasNvidia = existsSync('/dev/nvidiactl');
describe.skipIf(process.platform !== 'linux' || hasNvidia)(
  'doctor --gpu without a GPU (drivers are hidden on Linux only)',
  () => {
    it('ends with 1, and says for each backend why it is not available', { timeout: 600_000 }, async () => {
      const { code, stdout } = await peftBench(['doctor', '--gpu'], { env: withoutVulkan });
      expect(stdout).toMatch(/^No GPU: /);
      expect(stdout).toMatch(/^ {2}no {6}compiled on webgpu: .* it needs a GPU and its driver for Vulkan/m);
      expect(stdout).toMatch(/^ {2}no {6}compiled on cuda: .*npm rebuild onnxruntime-node/m);
      expect(stdout).toMatch(/^ {4}compiled on cpu, threads: \d+: not timed: no working GPU to compare with$/m);
      expect(code).toBe(1);
    });
  },
);

describe('a worker that is asked about a backend', () => {
  const { execArgv } = process;
  beforeAll(() => {
    process.execArgv = ['--import', 'tsx', '--conditions', '@peftjs/source']; // a worker starts from its source
  });
  afterAll(() => {
    process.execArgv = execArgv;
  });

  const plan = engineFromFlags({ engine: 'eager', backend: 'cpu', dtype: 'fp32' });

  it('is stopped if it does not answer in time, and then gives no further answers', async () => {
    const worker = startWorker();
    await expect(ask(worker, 'time', plan, 1000)).rejects.toThrow('within 1 s');
    await expect(ask(worker, 'start', plan, 1000)).rejects.toMatchObject({
      code: 'PEFT_WORKER',
      message: 'the worker process has ended', // even if the system has not ended it yet
    });
    await expect.poll(() => worker.process.signalCode).toBe('SIGKILL');
    endWorker(worker);
  });

  it('has failed if it dies', async () => {
    const worker = startWorker();
    const answer = ask(worker, 'time', plan, 60_000);
    worker.process.kill('SIGSEGV');
    await expect(answer).rejects.toThrow('SIGSEGV');
    endWorker(worker);
  });
});
