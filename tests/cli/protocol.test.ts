import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { DoneTrial } from '../../packages/cli/src/results/schema.js';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { peftBench } from './in-process.js';
import { resultsIn } from './results.js';
import { tinyTask } from './tiny-task.js';

const folder = temporaryFolder();
let task: string[] = [];

beforeAll(async () => {
  task = await tinyTask(folder, 32);
});

/** Runs a study on a tiny task. */
async function run(name: string, study: object, ...flags: string[]) {
  const config = join(folder, `${name}.json`);
  await writeFile(config, JSON.stringify(study));
  const out = join(folder, name);
  const ended = await peftBench(['run', ...task, '--config', config, '--epochs', '1', ...flags, '--out', out]);
  return { out, ...ended };
}

/** The results of a run by arm, and its report. */
async function outcome({ out, code, stderr }: Awaited<ReturnType<typeof run>>) {
  expect({ code, stderr }).toMatchObject({ code: 0 });
  const results = Object.fromEntries((await resultsIn<DoneTrial>(out)).map((result) => [result.arm, result]));
  return { results, report: await readFile(join(out, 'report.md'), 'utf8') };
}

describe('a study with one scale, and dropout of the frozen network', () => {
  const soft = { method: 'sora', options: { r: 4 }, stages: { levels: [0, 1e-4], epochs: 1, stageEpochs: 1 } };
  const methods = { head: {}, lora: {}, sora: {}, soft };
  let plain: Awaited<ReturnType<typeof outcome>>;
  let scaled: Awaited<ReturnType<typeof outcome>>;
  beforeAll(async () => {
    plain = await outcome(await run('plain', { methods, seeds: 1 }));
    scaled = await outcome(await run('scaled', { methods, seeds: 1, protocol: { scaling: 1.5 } }, '--dropout', '0.3'));
  }, 120_000);

  it('gives every arm that scale, which its results and the report show', () => {
    expect(plain.results).toMatchObject({ lora: { scale: 4 }, sora: { scale: 2 } });
    const { results, report } = scaled;
    expect(results).toMatchObject({ lora: { scale: 1.5 }, sora: { scale: 1.5 }, soft: { scale: 1.5 } });
    expect(results.head).not.toHaveProperty('scale');
    const [heads = [], ...rows] = report
      .split('\n')
      .filter((line) => /^\| (method|head|lora|sora) /.test(line))
      .map((line) => line.split(' | '));
    const scaleOf = (arm: string) => rows.find(([cell = '']) => cell.startsWith(`| ${arm}`))?.[heads.indexOf('scale')];
    expect(['head', 'lora', 'sora'].map(scaleOf)).toEqual(['–', '1.5', '1.5']);
    expect(report).toContain('- scaling: 1.5\n');
  });

  it('trains every arm with that dropout, which the results and the report state', () => {
    for (const [arm, { protocol, history }] of Object.entries(scaled.results)) {
      expect(protocol, arm).toHaveProperty('dropout', 0.3);
      // At the first step no adapter changes anything yet, so only dropout can change the loss.
      expect(history[0]?.loss, arm).not.toBe(plain.results[arm]?.history[0]?.loss);
    }
    expect(scaled.report).toContain('- dropout: 0.3\n');
    expect(plain.report).not.toContain('dropout:');
  });
});

describe('a study that stops early', () => {
  it('ends a trial after epochs that do not improve, with its best checkpoint, and says so', async () => {
    const study = { methods: { lora: {} }, seeds: 1, protocol: { earlyStoppingPatience: 1, learningRate: 1e-7 } };
    const { results, report } = await outcome(await run('patient', study, '--epochs', '6', '--learning-rate', '1e-7'));
    const { history, selection, protocol } = results.lora as DoneTrial;
    expect(protocol).toMatchObject({ epochs: 6, earlyStoppingPatience: 1 });
    const steps = history.at(-1)?.step as number;
    expect(steps).toBeLessThan(6 * 4);
    expect(selection.step).toBeLessThanOrEqual(steps);
    expect(report).toMatch(/or of all epochs if 1 in a row do not improve on the best/);
  });
});

it.each([
  [
    { methods: { soft: { method: 'sora', stages: { levels: [0] } } }, protocol: { earlyStoppingPatience: 2 } },
    [],
    /'soft' is trained in stages, which do not stop early; leave out its stages or/,
  ],
  [{ methods: { lora: { options: { loraAlpha: 16 } } } }, [], /'lora' has the option loraAlpha, but protocol\.scaling/],
  [{ methods: { loha: { options: { alpha: 16 } } } }, [], /'loha' has the option alpha, but protocol\.scaling/],
  [{ protocol: { scaling: 0 } }, [], /protocol\.scaling/],
  [{ protocol: { dropout: 1 } }, [], /'protocol\.dropout' is 1; expected <1/],
  [{ protocol: { dropout: 'no' } }, [], /'protocol\.dropout' is 'no'; expected \("config" \| number\)/],
  [{}, ['--dropout', '1'], /--dropout.*Expected config, or a rate from 0 to below 1\./],
  [{}, ['--dropout', 'cofnig'], /--dropout.*Expected config, or a rate from 0 to below 1\./],
])('%j %j is refused in one line', async (study, flags, message) => {
  const { code, stderr } = await run('refused', { protocol: { scaling: 2 }, ...study }, ...flags);
  expect(code).toBe(2);
  expect(stderr.trim().split('\n')).toEqual([expect.stringMatching(message)]);
});
