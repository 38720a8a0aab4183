import { ShapeError } from '@peftjs/core/method';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  accuracy,
  causalEvaluation,
  f1,
  macroF1,
  matthewsCorrelation,
  meanSquaredError,
  metricsFor,
  pearson,
  spearman,
  type Metric,
} from '@peftjs/tasks';

interface Golden {
  readonly cases: readonly {
    readonly name: string;
    readonly predicted: number[];
    readonly actual: number[];
    /** Null stands for SciPy's NaN. */
    readonly values: Record<string, number | null>;
  }[];
  readonly texts: readonly {
    readonly name: string;
    readonly logits: number[][];
    readonly labels: number[][];
    readonly tokens: number;
    readonly perplexity: number | null;
  }[];
}

const all: Record<string, Metric> = {
  accuracy,
  f1,
  macroF1,
  matthewsCorrelation,
  pearson,
  spearman,
  meanSquaredError,
};

const golden = JSON.parse(readFileSync(new URL('fixtures/metrics.json', import.meta.url), 'utf8')) as Golden;

describe('metrics match scikit-learn and SciPy', () => {
  it.each(golden.cases)('$name', ({ predicted, actual, values }) => {
    for (const [name, value] of Object.entries(values)) {
      const ours = all[name]?.(predicted, actual);
      if (value === null) expect(ours, name).toBeNaN();
      else expect(Math.abs((ours ?? NaN) - value), name).toBeLessThanOrEqual(1e-12 * Math.max(1, Math.abs(value)));
    }
  });
});

/** Scores rows of labels, by the logits of each. */
const language = (labels: readonly (readonly number[])[], logits: readonly Float32Array[]) => {
  const rows = labels.map((row) => ({ ids: new Int32Array(row.length), labels: Int32Array.from(row) }));
  const data = { name: 'texts', kind: 'causal-lm', rows, maxTokens: 512, truncated: 0, dropped: 0 } as const;
  const evaluation = causalEvaluation(data, { batchSize: 1 });
  const tokens = logits.reduce((sum, row, index) => sum + (evaluation.summarise(index, row)[1] as number), 0);
  const { perplexity = 0, meanLogLikelihood = 0 } = evaluation.score(logits);
  return { tokens, perplexity, meanLogLikelihood };
};

describe("perplexity matches SciPy's log_softmax", () => {
  it.each(golden.texts)('$name', ({ logits, labels, tokens, perplexity: expected }) => {
    const ours = language(
      labels,
      labels.map((_, row) => Float32Array.from(logits[row] ?? [])),
    );
    expect(ours.tokens).toBe(tokens);
    if (expected === null) {
      expect(ours.perplexity).toBeNaN();
      return;
    }
    const [found, wanted] = [Math.log(ours.perplexity), Math.log(expected)];
    expect(Math.abs(found - wanted)).toBeLessThan(1e-6 * Math.abs(wanted)); // float32 logits
    expect(ours.meanLogLikelihood).toBeCloseTo(-found, 10);
  });

  it('is the size of the vocabulary for uniform predictions', () => {
    expect(language([[0, 1, 2, 3, 4]], [new Float32Array(5 * 32)]).perplexity).toBeCloseTo(32, 10);
  });

  it('is NaN if a logit is', () => {
    for (const odd of [NaN, Infinity]) {
      expect(language([[0, 0]], [Float32Array.of(0, odd, 0, 0)]).perplexity).toBeNaN();
    }
  });

  it('rejects logits and labels that do not fit each other', () => {
    expect(() => language([[0, 1]], [new Float32Array(7)])).toThrow(ShapeError);
    expect(() => language([[0, 4]], [new Float32Array(8)])).toThrow(/below 4, got 4/);
  });
});

describe('closed forms', () => {
  it('accuracy is the share of right rows', () => {
    expect(accuracy([0, 1, 2, 2], [0, 1, 1, 2])).toBe(0.75);
  });

  it('f1 is 2 TP / (2 TP + FP + FN)', () => {
    expect(f1([1, 1, 0, 0, 1], [1, 0, 1, 0, 1])).toBe(4 / 6);
    expect(f1([1, 1, 0, 0, 1], [1, 0, 1, 0, 1], 0)).toBe(0.5);
  });

  it('macroF1 is the mean over classes', () => {
    expect(macroF1([0, 0, 1, 2], [0, 1, 1, 2])).toBeCloseTo((2 / 3 + 2 / 3 + 1) / 3, 15);
  });

  it('matthewsCorrelation is (TP TN - FP FN) / sqrt(..) for two classes', () => {
    const [tp, tn, fp, fn] = [5, 3, 2, 1];
    const repeat = (count: number, value: number) => new Array<number>(count).fill(value);
    const predicted = [...repeat(tp, 1), ...repeat(tn, 0), ...repeat(fp, 1), ...repeat(fn, 0)];
    const actual = [...repeat(tp, 1), ...repeat(tn, 0), ...repeat(fp, 0), ...repeat(fn, 1)];
    const expected = (tp * tn - fp * fn) / Math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn));
    expect(matthewsCorrelation(predicted, actual)).toBeCloseTo(expected, 15);
    expect(matthewsCorrelation([0, 1, 2], [0, 1, 2])).toBe(1);
    expect(matthewsCorrelation([0, 1], [1, 0])).toBe(-1);
  });

  it('pearson is 1 on a rising line and -1 on a falling one', () => {
    expect(pearson([1, 2, 3], [10, 20, 30])).toBeCloseTo(1, 15);
    expect(pearson([1, 2, 3], [3, 2, 1])).toBeCloseTo(-1, 15);
    expect(pearson([1, 2, 3, 4], [1, -1, -1, 1])).toBe(0);
  });

  it('spearman only depends on the order, and ties share a rank', () => {
    expect(spearman([1, 10, 100], [1, 2, 3])).toBeCloseTo(1, 15);
    expect(spearman([1, 1, 2], [1, 2, 3])).toBeCloseTo(Math.sqrt(3) / 2, 15);
  });

  it('meanSquaredError is the mean of squares', () => {
    expect(meanSquaredError([1, 2, 3], [1, 4, 0])).toBe(13 / 3);
  });
});

describe('edges', () => {
  it('is 0 where a metric of classes is undefined', () => {
    expect(f1([0, 0], [0, 0])).toBe(0);
    expect(matthewsCorrelation([1, 1, 1], [0, 1, 0])).toBe(0);
    expect(matthewsCorrelation([0, 1, 0], [1, 1, 1])).toBe(0);
  });

  it('is NaN where a correlation is undefined, and 0 in a score', () => {
    const { metrics } = metricsFor('regression');
    for (const [name, correlation] of Object.entries({ pearson, spearman })) {
      const undefinedOn: readonly (readonly [number[], number[]])[] = [
        [
          [0.1, 0.1, 0.1],
          [1, 2, 3],
        ],
        [
          [1, 2, 3],
          [0.3, 0.3, 0.3],
        ],
        [[1], [2]],
      ];
      for (const [predicted, actual] of undefinedOn) {
        expect(correlation(predicted, actual)).toBeNaN();
        expect(metrics[name]?.(predicted, actual)).toBe(0);
      }
      expect(metrics[name]?.([1, NaN, 2], [1, 2, 3])).toBeNaN();
    }
  });

  it('has a value without any rows', () => {
    for (const metric of [accuracy, f1, macroF1, matthewsCorrelation, meanSquaredError]) expect(metric([], [])).toBe(0);
    for (const metric of [pearson, spearman]) expect(metric([], [])).toBeNaN();
  });

  it('is NaN if a value is', () => {
    for (const metric of [pearson, spearman, meanSquaredError]) expect(metric([1, NaN, 2], [1, 2, 3])).toBeNaN();
  });

  it('stays within -1 and 1', () => {
    expect(Math.abs(pearson([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]))).toBeLessThanOrEqual(1);
  });

  it('rejects sides of different lengths', () => {
    for (const metric of Object.values(all)) expect(() => metric([1, 2], [1])).toThrow(ShapeError);
  });
});

describe('metricsFor', () => {
  it('returns the metrics of a kind, and the primary one', () => {
    const named = (['classification', 'regression'] as const).map((kind) => {
      const { primary, metrics } = metricsFor(kind);
      return [primary, Object.keys(metrics)];
    });
    expect(named).toEqual([
      ['accuracy', ['accuracy', 'macroF1']],
      ['pearson', ['pearson', 'spearman', 'meanSquaredError']],
    ]);
  });
});
