/**
 * Which nodes of a training step run on the device, by ONNX Runtime's own profile. A node that falls back to the CPU
 * makes the step wait for a copy in each direction; those of shapes and sizes are computed on the CPU on purpose.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { expect, it } from 'vitest';
import { attach, train } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { batchOf, heads, load, tiny, type HeadName, type Network } from '../models/tiny.js';
import { findExecutor } from './executors.js';

const { skipped } = await findExecutor('compiled on WebGPU');
const folder = temporaryFolder();

/** Operators of shapes and sizes, whose operands are on the CPU. */
const OF_SIZES = ['Add', 'Cast', 'Concat', 'Mul', 'Range', 'Slice', 'Squeeze'];

interface Case {
  readonly name: Network;
  readonly head: HeadName;
  readonly dtype?: 'fp32' | 'q8';
}

const cases: readonly Case[] = [
  { name: 'roberta', head: 'classes' },
  { name: 'deberta-v3', head: 'classes' },
  { name: 'gpt2', head: 'next' },
  { name: 'llama', head: 'next' },
  { name: 'qwen3', head: 'next', dtype: 'q8' },
];

/** The operators of each provider in a training step of LoRA on a network. */
async function operators({ name, head, dtype = 'fp32' }: Case): Promise<Record<string, string[]>> {
  const from = tiny(name);
  const [model, batch, { kind }] = [await load(from, head, { dtype }), batchOf(from, 1, { head }), heads[head]];
  const open = new Set<ort.InferenceSession>();
  const create = async (graph: Uint8Array, options: ort.InferenceSession.SessionOptions) => {
    const profileFilePrefix = join(folder, name);
    const session = await ort.InferenceSession.create(graph, { ...options, enableProfiling: true, profileFilePrefix });
    open.add(session);
    const release = session.release.bind(session);
    session.release = () => {
      open.delete(session);
      session.endProfiling();
      return release();
    };
    return session;
  };
  const executor = compiled({
    threads: 1,
    executionProviders: ['webgpu'],
    runtime: { ...ort, InferenceSession: { create } },
  });
  const data = { kind, epoch: () => [batch], batchesPerEpoch: 1 };
  await train(attach(model, lora({ r: 2 })), data, { executor, epochs: 2, learningRate: 0.01 });
  for (const session of open) session.endProfiling();
  const placed: Record<string, Set<string>> = {};
  for (const file of (await readdir(folder)).filter((file) => file.startsWith(name))) {
    const events = JSON.parse(await readFile(join(folder, file), 'utf8')) as {
      args?: { op_name?: string; provider?: string };
    }[];
    for (const { args: { op_name: op, provider } = {} } of events)
      if (op && provider) (placed[provider] ??= new Set()).add(op);
  }
  return Object.fromEntries(Object.entries(placed).map(([provider, ops]) => [provider, [...ops].sort()]));
}

it.skipIf(skipped !== undefined).each(cases)(
  `a step of $name runs on WebGPU${skipped ? ` (${skipped})` : ''}`,
  async (given) => {
    const { CPUExecutionProvider: onCpu = [], WebGpuExecutionProvider: onDevice = [] } = await operators(given);
    expect(onDevice.length).toBeGreaterThan(10);
    expect(onCpu.filter((op) => !OF_SIZES.includes(op))).toEqual([]);
    expect(onDevice).not.toContain('MemcpyToHost');
  },
);
