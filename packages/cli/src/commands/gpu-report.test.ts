import { describe, expect, it } from 'vitest';
import type { GpuCheck, GpuFindings } from '../run/check-gpus.js';
import { FLOAT32 } from '../run/parity.js';
import { gpuText, gpuVerdict } from './gpu-report.js';

const at = (distance: number) => ({ name: 'a.weight', distance });
const exact = { outputs: at(1e-7), gradients: at(2e-7), steps: at(3e-6) };
const far = { outputs: at(4e-4), gradients: at(Infinity), steps: at(2e-3) };
const steps = {
  small: { medianMs: 3.25, steps: 20, firstStepMs: 150 },
  minilm: { medianMs: 41.6, steps: 20, firstStepMs: 900 },
};

const passed: GpuCheck = {
  executor: 'compiled',
  backend: 'webgpu',
  status: 'passed',
  software: false,
  drivers: ['libvulkan_radeon.so'],
  checks: [{ method: 'one', passed: true, farthest: exact }],
  steps,
};
const failed: GpuCheck = {
  executor: 'eager',
  backend: 'tensorflow',
  status: 'failed',
  versions: { tensorflow: '2.18.1' },
  checks: [{ method: 'one', passed: false, farthest: far }],
  withoutTf32: [{ method: 'one', passed: false, farthest: far }],
  steps: { small: { error: 'out of\n memory' }, minilm: { error: 'out of memory' } },
};
const crashed: GpuCheck = { executor: 'compiled', backend: 'cuda', status: 'failed', reason: 'killed by SIGSEGV' };
const missing: GpuCheck = {
  executor: 'compiled',
  backend: 'cuda',
  status: 'unavailable',
  reason: 'its libraries are missing',
  install: 'npm rebuild onnxruntime-node',
};

function findings(backends: readonly GpuCheck[], error?: string): GpuFindings {
  return {
    devices: [],
    backends,
    cpu: { threads: 2, steps },
    ...(error !== undefined && { error }),
  };
}

describe('the verdict of doctor --gpu', () => {
  it.each([
    ['one passes', [passed, missing], true, /^Passed: compiled on webgpu\.$/],
    ['only a software device passes', [{ ...passed, software: true }], true, /software device, not a GPU/],
    ['one fails', [passed, failed], false, /^Failed: eager on tensorflow; passed: compiled on webgpu\. /],
    ['one crashes', [crashed], false, /^Failed: compiled on cuda\. /],
    ['none is available', [missing], false, /^No GPU: /],
  ])('%s', (_, backends, isReady, line) => {
    const verdict = gpuVerdict(findings(backends));
    expect(verdict.isReady).toBe(isReady);
    expect(verdict.line).toMatch(line);
  });

  it('says why the backends could not be listed', () => {
    const { isReady, line } = gpuVerdict(findings([], 'the worker process was killed by SIGSEGV'));
    expect([isReady, line]).toEqual([false, expect.stringMatching(/could not be listed: the worker .* SIGSEGV$/)]);
  });
});

describe('the text of doctor --gpu', () => {
  const text = (found: GpuFindings): string => {
    const { line: verdict } = gpuVerdict(found);
    const machine = 'Node 20.20.2 on linux/x64';
    return gpuText({ verdict, machine, versions: { node: '20.20.2' }, tolerance: FLOAT32, ...found });
  };

  it('has a line for the machine, each backend, each method and each time', () => {
    const shown = text({ ...findings([passed, missing]), devices: ['NVIDIA H100, 81559 MiB, 550.1'] });
    expect(shown.split('\n')).toEqual([
      'Passed: compiled on webgpu.',
      '',
      'machine',
      '  Node 20.20.2 on linux/x64',
      '  GPU: NVIDIA H100, 81559 MiB, 550.1',
      '',
      'packages',
      '  node 20.20.2',
      '',
      'backends: largest ||a - b|| / ||b|| of a tensor (at most: outputs 5.0e-6, gradients 1.0e-5, steps 1.0e-4)',
      '  passed  compiled on webgpu (drivers: libvulkan_radeon.so)',
      '          one: outputs 1.0e-7, gradients 2.0e-7, steps 3.0e-6',
      '  no      compiled on cuda: its libraries are missing; to install it: npm rebuild onnxruntime-node',
      '',
      'median time of a training step',
      '  2 layers of 64, 4 x 16 tokens',
      '    compiled on webgpu: 3.3 ms (timed: 20; the first step: 150 ms)',
      '    compiled on cpu, threads: 2: 3.3 ms (timed: 20; the first step: 150 ms)',
      '  6 layers of 384, 16 x 64 tokens',
      '    compiled on webgpu: 42 ms (timed: 20; the first step: 900 ms)',
      '    compiled on cpu, threads: 2: 42 ms (timed: 20; the first step: 900 ms)',
      '',
    ]);
  });

  it('names the farthest tensors of a check that fails, with and without TF32', () => {
    const shown = text(findings([failed, crashed]));
    const line =
      '        one: outputs 4.0e-4, gradients not comparable, steps 2.0e-3 (gradients: a.weight; steps: a.weight)';
    expect(shown).toContain(
      [
        '  FAILED  eager on tensorflow (tensorflow 2.18.1)',
        `  ${line}`,
        '          with NVIDIA_TF32_OVERRIDE=0:',
        `  ${line}`,
        '  FAILED  compiled on cuda: killed by SIGSEGV',
      ].join('\n'),
    );
    expect(shown).toContain('    eager on tensorflow: not timed: out of memory\n');
    expect(shown).toContain('  GPU: no installed program knows its name\n');
  });
});
