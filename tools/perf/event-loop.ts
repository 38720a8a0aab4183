/*
 * npx tsx --conditions @peftjs/source tools/perf/event-loop.ts [--model FOLDER] [--dtype q8] [--steps 25] [--rounds 3] [--threads 2]
 *
 * Measures how long the event loop is blocked while LoRA trains MiniLM, with and without a worker thread for the
 * graphs: milliseconds beyond the requested one. The time before the second step (upload, tracing, the session) is
 * reported separately, by its longest delay. Both must have bit-identical losses. An idle loop is measured too, as the
 * machine's own delay.
 */
import { train, type Executor } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { fromPretrained, type WeightDtype } from '@peftjs/models';
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay, type IntervalHistogram } from 'node:perf_hooks';
import { setTimeout as wait } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { onModel, randomData } from './cases.js';
import { writeRandomModel } from './checkpoint.js';
import { models } from './models.js';

const { values: flags } = parseArgs({
  options: {
    model: { type: 'string' },
    dtype: { type: 'string', default: 'fp32' },
    steps: { type: 'string', default: '25' },
    rounds: { type: 'string', default: '3' },
    threads: { type: 'string', default: String(availableParallelism()) },
  },
});
const [steps, threads] = [Number(flags.steps), Number(flags.threads)];
const RESOLUTION = 1; // ms
const IDLE_MS = 5000;

const folder = await mkdtemp(join(tmpdir(), 'peftjs-loop-'));
try {
  if (flags.model === undefined) await writeRandomModel(folder, models.minilm.config, models.minilm.task);
  const model = await fromPretrained(flags.model ?? folder, { dtype: flags.dtype as WeightDtype });
  for (let round = 0; round < Number(flags.rounds); round++) {
    console.log(`load ${loadavg()[0]?.toFixed(1)}`);
    await measureIdle();
    const [without, within] = [await measured(model, false), await measured(model, true)];
    console.log(`  losses ${without.losses.join() === within.losses.join() ? 'the same to the bit' : 'DIFFER'}`);
    console.log(`  a step takes ${(within.stepMs / without.stepMs).toFixed(2)} times as long with the thread`);
  }
} finally {
  await rm(folder, { recursive: true });
}

async function measured(model: Awaited<ReturnType<typeof fromPretrained>>, worker: boolean) {
  const executor: Executor = compiled({ threads, worker });
  const losses: number[] = [];
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION });
  let [longestAtStart, from] = [0, 0];
  delay.enable();
  await train(onModel.lora(model), randomData(model, [16, 64], steps + 1), {
    executor,
    epochs: 1,
    learningRate: 1e-3,
    onStep({ loss }) {
      losses.push(loss);
      if (losses.length > 1) return;
      longestAtStart = milliseconds(delay.max);
      from = performance.now();
      delay.reset();
    },
  });
  const stepMs = (performance.now() - from) / steps;
  delay.disable();
  console.log(
    `  ${worker ? 'thread ' : 'without'}  ${shown(delay)}; at the start ${longestAtStart.toFixed(0)} ms; a step ${stepMs.toFixed(0)} ms`,
  );
  return { losses, stepMs };
}

async function measureIdle(): Promise<void> {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION });
  delay.enable();
  await wait(IDLE_MS);
  delay.disable();
  console.log(`  idle     ${shown(delay)}`);
}

function shown(delay: IntervalHistogram): string {
  const [p50, p99] = [50, 99].map((percent) => milliseconds(delay.percentile(percent)).toFixed(1));
  return `p50 ${p50} ms, p99 ${p99} ms, longest ${milliseconds(delay.max).toFixed(1)} ms`;
}

/** Returns the delay beyond the resolution. */
function milliseconds(nanoseconds: number): number {
  return Math.max(0, nanoseconds / 1e6 - RESOLUTION);
}
