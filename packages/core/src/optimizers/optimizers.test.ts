import { readFile } from 'node:fs/promises';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { relativeDistance, referenceExecutor } from '@peftjs/conformance';
import { hostTensor, mapValues, type HostTensor } from '../tensors.js';
import { adafactor } from './adafactor.js';
import { adamW } from './adamw.js';
import { lion } from './lion.js';
import type { CarryKind, Optimizer } from './optimizer.js';
import { sgd } from './sgd.js';

const makers: Readonly<Record<string, (options?: never) => Optimizer>> = { adamW, sgd, lion, adafactor };

/** Values that tools/golden/optimizers.py computed with torch, transformers and lion-pytorch. */
interface Golden {
  readonly shapes: Readonly<Record<string, number[]>>;
  readonly start: Readonly<Record<string, number[]>>;
  readonly gradients: readonly Readonly<Record<string, number[]>>[];
  readonly optimizers: readonly {
    readonly name: string;
    readonly settings: Readonly<Record<string, unknown>>;
    readonly learningRates: readonly number[];
    readonly after: Readonly<Record<string, Readonly<Record<string, number[]>>>>;
  }[];
}

const golden = JSON.parse(
  await readFile(new URL('../../test/fixtures/optimizers.json', import.meta.url), 'utf8'),
) as Golden;

beforeAll(async () => {
  await referenceExecutor();
});

/** A tensor with its slots. */
interface State {
  readonly value: Tensor;
  readonly slots: Record<string, Tensor>;
}

function startOf({ slots }: Optimizer, value: Tensor): State {
  const shapes = Object.entries(slots).map(([name, { shape }]) => [name, shape ? shape(value.shape) : value.shape]);
  const held = shapes.filter(([, shape]) => shape !== null) as [string, number[]][];
  return { value, slots: Object.fromEntries(held.map(([name, shape]) => [name, tf.zeros(shape)])) };
}

function stepped(
  optimizer: Optimizer,
  at: State,
  gradient: Tensor,
  step: number,
  learningRate: number,
  decay = true,
): State {
  const scalars = mapValues({ ...optimizer.scalars?.(step) }, (value) => tf.scalar(value));
  return optimizer.update({ ...at, gradient, decay, scalars, learningRate: tf.scalar(learningRate) });
}

/** The values of one element after each of its gradients. */
function path(optimizer: Optimizer, start: number, gradients: readonly number[], learningRate: number): number[] {
  let at = startOf(optimizer, tf.tensor1d([start]));
  return gradients.map((gradient, index) => {
    at = stepped(optimizer, at, tf.tensor1d([gradient]), index + 1, learningRate);
    return at.value.dataSync()[0] as number;
  });
}

describe('an optimizer takes the steps of its reference implementation', () => {
  const cases = golden.optimizers.map((optimizer) => ({ ...optimizer, given: JSON.stringify(optimizer.settings) }));

  it.each(cases)('$name($given)', ({ name, settings, learningRates, after }) => {
    const optimizer = makers[name]?.(settings as never) as Optimizer;
    for (const [tensor, shape] of Object.entries(golden.shapes)) {
      let at = startOf(optimizer, tf.tensor(golden.start[tensor] as number[], shape));
      learningRates.forEach((rate, index) => {
        const gradient = tf.tensor(golden.gradients[index]?.[tensor] as number[], shape);
        at = stepped(optimizer, at, gradient, index + 1, rate, tensor === 'decayed');
        expect(Object.keys(at.slots).sort()).toEqual(Object.keys(startOf(optimizer, at.value).slots).sort());
        const expected = after[index + 1]?.[tensor];
        if (expected) expect(relativeDistance(at.value.dataSync(), expected)).toBeLessThan(1e-6);
      });
    }
    expect(Object.keys(after)).toEqual(['1', '2', '10']);
  });
});

describe('options', () => {
  it.each([
    [() => adamW({ beta1: 1 }), 'beta1', "adamW: option 'beta1' is 1; expected <1"],
    [() => adamW({ beta2: -0.1 }), 'beta2', "adamW: option 'beta2' is -0.1; expected >=0"],
    [() => adamW({ epsilon: 0 }), 'epsilon', "adamW: option 'epsilon' is 0; expected >0"],
    [() => adamW({ weightDecay: -1 }), 'weightDecay', "adamW: option 'weightDecay' is -1; expected >=0"],
    [() => adamW({ weightDecay: NaN }), 'weightDecay', "adamW: option 'weightDecay' is NaN; expected number"],
    [
      () => adamW({ epsilonOn: 'Raw' as never }),
      'epsilonOn',
      `adamW: option 'epsilonOn' is 'Raw' (did you mean 'raw'?); expected ("corrected" | "raw")`,
    ],
    [
      () => adamW({ weigthDecay: 0.1 } as never),
      'weigthDecay',
      "adamW: option 'weigthDecay' is unknown (did you mean 'weightDecay'?); known are weightDecay, beta1, beta2, epsilon, epsilonOn",
    ],
    [() => sgd({ momentum: 1 }), 'momentum', "sgd: option 'momentum' is 1; expected <1"],
    [
      () => sgd({ nesterov: true }),
      'nesterov',
      "sgd: option 'nesterov' needs a momentum above 0 and no dampening, got momentum 0 and dampening 0",
    ],
    [() => sgd({ dampening: 0.1 }), 'dampening', "sgd: option 'dampening' needs a momentum above 0, got momentum 0"],
    [() => lion({ beta2: 1 }), 'beta2', "lion: option 'beta2' is 1; expected <1"],
    [() => adafactor({ decayRate: 0.8 }), 'decayRate', "adafactor: option 'decayRate' is 0.8; expected <0"],
    [() => adafactor({ eps: [0, 1e-3] }), 'eps.0', "adafactor: option 'eps.0' is 0; expected >0"],
    [() => adafactor({ beta1: 1 }), 'beta1', "adafactor: option 'beta1' is 1; expected <1"],
  ])('%s is rejected in one line', (make, field, message) => {
    expect(make).toThrow(expect.objectContaining({ code: 'PEFT_CONFIG', path: field, message }));
  });

  it.each(Object.entries(makers))('of %s are in its settings, defaults included, as plain values', (_, make) => {
    const { settings } = make();
    expect(Object.keys(settings ?? {}).length).toBeGreaterThan(2);
    expect(JSON.parse(JSON.stringify(settings))).toEqual(settings);
    expect(make(settings as never).settings).toEqual(settings);
  });
});

describe('adamW', () => {
  it("trap 27: adds epsilon where torch does, or where transformers' AdamW did, and the two differ", () => {
    const small = Array.from({ length: 10 }, (_, index) => 1e-5 * (1 + Math.sin(index)));
    const epsilon = 1e-6;
    /** Algorithm 2 of the paper in double precision. */
    const scalarAdamW = (denominator: (root: number, correction: number) => number): number => {
      let [p, m, s] = [0.7, 0, 0];
      small.forEach((g, index) => {
        [m, s] = [0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g * g];
        p -= (0.01 * m) / (1 - 0.9 ** (index + 1)) / denominator(Math.sqrt(s), Math.sqrt(1 - 0.999 ** (index + 1)));
      });
      return p;
    };
    const corrected = path(adamW({ epsilon }), 0.7, small, 0.01).at(-1) as number;
    const raw = path(adamW({ epsilon, epsilonOn: 'raw' }), 0.7, small, 0.01).at(-1) as number;
    expect(corrected).toBeCloseTo(
      scalarAdamW((root, correction) => root / correction + epsilon),
      5,
    );
    expect(raw).toBeCloseTo(
      scalarAdamW((root, correction) => (root + epsilon) / correction),
      5,
    );
    expect(Math.abs(corrected - raw)).toBeGreaterThan(1e-3);
  });

  it('moves by the learning rate in its first step, whatever the gradient', () => {
    expect(path(adamW(), 0, [3], 0.01)).toEqual([expect.closeTo(-0.01, 6)]);
    expect(path(adamW(), 0, [-1e-3], 0.01)).toEqual([expect.closeTo(0.01, 6)]);
  });
});

describe('sgd', () => {
  it('reaches the speed 1 / (1 - momentum) under a constant gradient', () => {
    const [first, second] = path(sgd({ momentum: 0.5 }), 0, Array<number>(30).fill(1), 0.25).slice(-2) as [
      number,
      number,
    ];
    expect(second - first).toBeCloseTo(-0.5, 6);
  });
});

describe('lion', () => {
  it('moves by the learning rate against the sign, and not at all where there never was a gradient', () => {
    expect(path(lion(), 0, [1e-6, 7], 0.125)).toEqual([-0.125, -0.25]);
    expect(path(lion(), 0.5, [0, 0], 0.125)).toEqual([0.5, 0.5]);
  });
});

describe('adafactor', () => {
  const { slots } = adafactor({ beta1: 0.9 });

  it('keeps in + out numbers of a matrix, all of a vector, and matrices of the last two axes of more', () => {
    const shapes = (shape: number[]) =>
      mapValues({ ...slots }, (slot) => (slot.shape ? slot.shape(shape) : shape) as number[] | null);
    expect(shapes([3, 4])).toEqual({ rows: [3], columns: [4], moment2: null, moment1: [3, 4] });
    expect(shapes([5])).toEqual({ rows: null, columns: null, moment2: [5], moment1: [5] });
    expect(shapes([2, 3, 4])).toEqual({ rows: [2, 3], columns: [2, 4], moment2: null, moment1: [2, 3, 4] });
  });

  it('updates a stack of matrices one by one, but clips it as a whole', () => {
    const optimizer = adafactor({ clipThreshold: 100 });
    const [values, gradients] = [
      tf.randomNormal([2, 3, 4], 0, 1, 'float32', 1),
      tf.randomNormal([2, 3, 4], 0, 1, 'float32', 2),
    ];
    const whole = stepped(optimizer, startOf(optimizer, values), gradients, 1, 0.01).value;
    const apart = [0, 1].map((index) => {
      const matrix = (x: Tensor): Tensor => tf.squeeze(tf.slice(x, [index, 0, 0], [1, 3, 4]), [0]);
      return stepped(optimizer, startOf(optimizer, matrix(values)), matrix(gradients), 1, 0.01).value;
    });
    expect(relativeDistance(whole.dataSync(), tf.stack(apart).dataSync())).toBeLessThan(1e-6);
  });

  it('stays finite where a gradient is 0', () => {
    const optimizer = adafactor();
    const zeros = tf.zeros([2, 2]);
    expect([...stepped(optimizer, startOf(optimizer, zeros), zeros, 1, 0.1).value.dataSync()]).toEqual([0, 0, 0, 0]);
  });

  describe('carries its factors by their product', () => {
    const rows = hostTensor(Float32Array.of(1, 3), [2]);
    const columns = hostTensor(Float32Array.of(2, 1, 3), [3]); // r c / mean(r): [[1, 0.5, 1.5], [3, 1.5, 4.5]]
    const carriedBy = (carry: (tensor: HostTensor, kind: CarryKind) => HostTensor) =>
      [slots.rows, slots.columns].map((slot) => {
        const { carried } = slot ?? {};
        if (typeof carried !== 'function') throw new Error('a factor is carried by a function');
        return [...carried({ rows, columns }, carry).data];
      });

    it('unchanged, where the ranks stay', () => {
      const kinds: string[] = [];
      const same = carriedBy((tensor, kind) => {
        kinds.push(kind);
        return tensor;
      });
      expect(same).toEqual([
        [1, 3],
        [2, 1, 3],
      ]);
      expect(kinds).toEqual(['squaredGradient', 'squaredGradient']);
    });

    it('to fewer and to new ranks', () => {
      const kept = carriedBy(({ data, shape }) => {
        expect([...data]).toEqual([1, 0.5, 1.5, 3, 1.5, 4.5]);
        expect(shape).toEqual([2, 3]);
        return hostTensor(Float32Array.of(1, 1.5, 0, 3, 4.5, 0), [2, 3]); // the second column is gone, a new one is 0
      });
      expect(kept).toEqual([
        [expect.closeTo(2.5 / 3, 6), 2.5],
        [2, 3, 0],
      ]);
    });

    it('as zeros before the first step', () => {
      const zero = (tensor: HostTensor): HostTensor => ({ ...tensor, data: new Float32Array(tensor.data.length) });
      const carried = slots.rows?.carried;
      if (typeof carried !== 'function') throw new Error('a factor is carried by a function');
      expect([...carried({ rows: zero(rows), columns: zero(columns) }, (tensor) => tensor).data]).toEqual([0, 0]);
    });
  });
});
