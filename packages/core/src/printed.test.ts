import { inspect } from 'node:util';
import { referenceExecutor, toyEvaluationData, toyModel, toyTrainingData } from '@peftjs/conformance';
import { beforeAll, describe, expect, it } from 'vitest';
import { wholeModules } from '../test/whole-modules.js';
import { attach, defineMethod } from './adapter/attach.js';
import type { Executor } from './contracts/executor.js';
import { predict } from './train/evaluate.js';
import type { TrainResult } from './train/options.js';
import { printedResult } from './train/summary.js';
import { train } from './train/train.js';

let executor: Executor;
beforeAll(async () => {
  executor = await referenceExecutor();
});

const whole = defineMethod(wholeModules());
const attached = () => attach(toyModel(), whole({ targetModules: ['query'] }), { seed: 1 });

async function trained() {
  const peft = attached();
  const losses: number[] = [];
  const selection = { data: toyEvaluationData(), evaluations: 1 };
  const onStep = ({ loss }: { loss: number }): void => void losses.push(Number(loss.toPrecision(3)));
  const options = { executor, epochs: 3, learningRate: 0.01, selection, onStep };
  return { peft, losses, result: await train(peft, toyTrainingData(), options) };
}

describe('console.log', () => {
  it('shows how a training went', async () => {
    const { result, losses } = await trained();
    const { metrics } = result.selected;
    const [accuracy = NaN] = Object.values(metrics);
    const text = inspect(result);
    expect(text).toMatch(
      /^whole on toy-encoder, trained\n {2}steps {4}12 of 12\n {2}time {5}\d+\.\d s, \d+\.\d s of it to compile\n/,
    );
    expect(text).toContain(`\n  loss     ${losses[0]} at step 1, ${losses[11]} at step 12\n`);
    expect(text).toContain(`\n  metrics  ${Object.keys(metrics)[0]} ${Number(accuracy.toPrecision(3))}`);
    expect(text).toMatch(/\n {2}adapter {2}'default', 144 parameters; savePretrained\(peft, folder\) writes it$/);
  });

  it('shows the ranks of many modules on one screen', async () => {
    const { peft, result } = await trained();
    const of = (names: readonly string[], rank: (layer: number) => number) =>
      names.flatMap((name) =>
        Array.from({ length: 40 }, (_, layer) => [`layers.${layer}.${name}`, rank(layer)] as const),
      );
    const shown = (ranks: readonly (readonly [string, number])[]): string[] => {
      const selected = { ...result.selected, ranks: Object.fromEntries(ranks) };
      const facts = { peft, adapter: { name: 'default', method: wholeModules() }, steps: [], seconds: 1 };
      const lines = inspect(printedResult({ ...result, selected }, facts)).split('\n');
      return lines.slice(5, -1);
    };
    expect(shown(of(['q', 'k'], () => 8))).toEqual(['  ranks    8 in each of 80 modules']);
    const first = '1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 ..';
    const names = Array.from({ length: 12 }, (_, at) => `p${at}`);
    const lines = shown(of(names, (layer) => layer + 1));
    expect(lines[0]).toBe(`  ranks    layers.*.p0  ${first}`);
    expect(lines.slice(1, -1)).toEqual(names.slice(1, 10).map((name) => `           layers.*.${name}  ${first}`));
    expect(lines.at(-1)).toBe('           .. and 2 more kinds of modules');
    expect(shown([])).toEqual([]);
    expect(shown([['a\u001b[2J\nb', 3]])).toEqual(['  ranks    a [2J b  3']);
  });

  it('shows the adapters of a model', () => {
    const peft = attached();
    const line = '  default: whole, active, 144 parameters in 2 modules, also trained: classifier';
    expect(inspect(peft)).toBe(`toy-encoder with 1 adapter\n${line}`);
    expect(inspect(Object.assign(peft, { enabled: false }))).toBe(`toy-encoder with 1 adapter, disabled\n${line}`);
  });

  it('shows the first numbers of the first outputs', async () => {
    const outputs = await predict(attached(), toyEvaluationData().batches, { executor });
    const lines = inspect(outputs).split('\n');
    expect(lines[0]).toBe(`outputs of ${outputs.length} rows`);
    expect(lines[1]?.trim().split(' ').map(Number)).toEqual(
      [...(outputs[0] ?? [])].map((x) => Number(x.toPrecision(3))),
    );
    expect(lines.length).toBeLessThan(20);
  });
});

it('values that print as a summary stay plain data', async () => {
  const { result } = await trained();
  const outputs = await predict(attached(), toyEvaluationData().batches, { executor });
  const fields: (keyof TrainResult)[] = [
    'totalSteps',
    'stoppedEarly',
    'compileMs',
    'selected',
    'last',
    'meanParameters',
  ];
  expect(Reflect.ownKeys({ ...result }).sort()).toEqual([...fields].sort());
  expect(result).toStrictEqual({ ...result });
  expect(JSON.parse(JSON.stringify(result))).toHaveProperty('selected.layers');
  expect(structuredClone(outputs)).toStrictEqual(outputs);
  expect(outputs).toStrictEqual([...outputs]);
  const peft = attached();
  expect({ ...peft, adapters: new Map(peft.adapters) }).toStrictEqual(peft);
});
