/**
 * Random options of the methods whose adapters PEFT reads, spelled as in TypeScript: random-adapters.ts trains with
 * them for PEFT to open.
 */
import type { Model } from '@peftjs/core';
import { ConfigError, createRng, type PeftMethod, type Rng } from '@peftjs/core/method';

type Options = Record<string, unknown>;

/** A random method with random options. */
interface Drawn {
  /** The method. */
  readonly method: PeftMethod;
  /** Its options. */
  readonly options: Options;
}

/** Draws a method and its options, the same for the same seed and model. */
export function drawnAdapter(seed: number, model: Model, methods: readonly PeftMethod[]): Drawn {
  const draw = drawing(createRng(seed).fork('adapter'));
  const known = methods.flatMap((method) => {
    const [share, options] = table[method.name] ?? [0];
    return options ? Array.from({ length: share }, () => ({ method, options })) : [];
  });
  const { method, options } = draw.one(known);
  return { method, options: options(draw, namesOf(model)) };
}

/** Random choices. */
interface Draw {
  /** Returns one of some values. */
  one<T>(values: readonly T[]): T;
  /** Returns some of the values, at least one. */
  some<T>(values: readonly T[], most?: number): T[];
  /** Returns the result of `make` with a probability, otherwise nothing. */
  maybe(probability: number, make: () => Options): Options;
}

function drawing(rng: Rng): Draw {
  const one = <T>(values: readonly T[]): T => {
    if (values.length === 0) throw new ConfigError('nothing to draw from', 'values');
    return values[rng.integer(values.length)] as T;
  };
  return {
    one,
    some: (values, most = 3) =>
      Array.from(rng.permutation(values.length).slice(0, 1 + rng.integer(Math.min(most, values.length))), (at) =>
        one(values.slice(at, at + 1)),
      ),
    maybe: (probability, make) => (rng.uniform() < probability ? make() : {}),
  };
}

/** The names that options may use. */
interface Names {
  /** Last names of the linear modules in layers. */
  readonly linear: readonly string[];
  /** Paths of these modules. */
  readonly paths: readonly string[];
  /** Last names of embedding tables. */
  readonly tables: readonly string[];
  /** Last names of norms. */
  readonly norms: readonly string[];
  /** Ends of the paths of all modules. */
  readonly suffixes: readonly string[];
  /** The number of layers. */
  readonly layers: number;
}

function namesOf({ sites }: Model): Names {
  const last = (path: string): string => path.split('.').at(-1) ?? path;
  const unique = (values: readonly string[]): string[] => [...new Set(values)];
  const inLayers = sites.filter(({ kind, role, path }) => kind === 'linear' && role !== 'head' && /\.\d+\./.test(path));
  const isNorm = ({ kind }: (typeof sites)[number]): boolean => kind !== 'linear' && kind !== 'embedding';
  return {
    linear: unique(inLayers.map(({ path }) => last(path))),
    paths: inLayers.map(({ path }) => path),
    tables: unique(sites.filter(({ kind }) => kind === 'embedding').map(({ path }) => last(path))),
    norms: unique(sites.filter(isNorm).map(({ path }) => last(path))),
    suffixes: sites.flatMap(({ path }) => [last(path), path.split('.').slice(-3).join('.')]),
    layers: 1 + Math.max(...inLayers.map(({ path }) => Number(/\.(\d+)\./.exec(path)?.[1]))),
  };
}

function targets(draw: Draw, { linear, paths, layers }: Names): Options {
  const pattern = `.*\\.[0-${layers - 1}]\\..*(${draw.some(linear).join('|')})`;
  const targetModules = draw.one([
    draw.some(linear, 4),
    draw.some(linear, 4),
    draw.some(paths, 5),
    pattern,
    'all-linear',
  ]);
  const choices = [0, [layers - 1], Array.from({ length: layers }, (_, layer) => layer)];
  return {
    targetModules,
    ...draw.maybe(0.2, () => ({
      excludeModules: draw.one([draw.some(linear, 2), draw.some(paths, 2), '.*\\.0\\..*']),
    })),
    ...(Array.isArray(targetModules) && draw.maybe(0.25, () => ({ layersToTransform: draw.one(choices) }))),
  };
}

function saved(draw: Draw, { suffixes }: Names): Options {
  return draw.maybe(0.25, () => ({ modulesToSave: draw.some(suffixes, 2) }));
}

function patterns(draw: Draw, { linear, paths }: Names): Options {
  const keys = (): string[] => draw.some([draw.one(linear), draw.one(paths), `.*\\.0\\..*\\.${draw.one(linear)}`]);
  const valued = (values: readonly number[]): Options =>
    Object.fromEntries(keys().map((key) => [key, draw.one(values)]));
  return {
    ...draw.maybe(0.3, () => ({ rankPattern: valued([1, 2, 3, 5]) })),
    ...draw.maybe(0.3, () => ({ alphaPattern: valued([1, 3, 7, 10]) })),
  };
}

const starts = [true, true, true, true, false, 'gaussian', 'pissa', 'olora', 'orthogonal'];

/** How often each method is drawn, and the function that draws its options. */
const table: Readonly<Record<string, readonly [share: number, options: (draw: Draw, names: Names) => Options]>> = {
  lora: [8, lora],
  adalora: [
    2,
    (draw, names) => ({ initR: draw.one([2, 4]), targetR: 1, ...targets(draw, names), ...saved(draw, names) }),
  ],
  sora: [2, gated],
  l1ra: [1, gated],
  vera: [
    2,
    (draw, names) => ({
      r: draw.one([1, 3, 8]),
      targetModules: draw.some(names.linear),
      projectionPrngKey: draw.one([0, 3]),
      saveProjection: draw.one([true, false]),
      ...saved(draw, names),
    }),
  ],
  ia3: [
    2,
    (draw, names) => {
      const targetModules = draw.some(names.linear);
      return { targetModules, feedforwardModules: draw.some(targetModules), ...saved(draw, names) };
    },
  ],
  'ln-tuning': [
    1,
    (draw, names) => ({ ...draw.maybe(0.7, () => ({ targetModules: draw.some(names.norms) })), ...saved(draw, names) }),
  ],
  loha: [
    1,
    (draw, names) => ({ r: draw.one([1, 3]), alpha: draw.one([1, 4]), ...targets(draw, names), ...saved(draw, names) }),
  ],
  lokr: [
    1,
    (draw, names) => ({
      r: draw.one([1, 3]),
      alpha: draw.one([1, 4]),
      decomposeBoth: draw.one([true, false]),
      decomposeFactor: draw.one([-1, 2]),
      ...targets(draw, names),
      ...saved(draw, names),
    }),
  ],
  oft: [
    1,
    (draw, names) => ({
      ...draw.one([
        { r: 0, oftBlockSize: 2 },
        { r: 2, oftBlockSize: 0 },
      ]),
      useCayleyNeumann: draw.one([true, false]),
      ...targets(draw, names),
      ...saved(draw, names),
    }),
  ],
};

function lora(draw: Draw, names: Names): Options {
  const options: Options = {
    r: draw.one([1, 2, 4, 6]),
    loraAlpha: draw.one([1, 2, 8, 0.5]),
    bias: draw.one(['none', 'none', 'none', 'all', 'lora_only']),
    initLoraWeights: draw.one(starts),
    ...targets(draw, names),
    ...patterns(draw, names),
    ...saved(draw, names),
    ...draw.maybe(0.25, () => ({ useRslora: true })),
    ...draw.maybe(0.25, () => ({ useDora: true })),
    ...draw.maybe(0.1, () => ({ loraBias: true })),
    ...draw.maybe(0.1, () => ({ loraFa: true })),
  };
  const { targetModules } = options;
  return Array.isArray(targetModules)
    ? { ...options, targetModules: [...(targetModules as string[]), ...draw.one([[], [], [draw.one(names.tables)]])] }
    : options;
}

function gated(draw: Draw, names: Names): Options {
  return {
    r: draw.one([2, 4]),
    loraAlpha: draw.one([1, 8]),
    ...targets(draw, names),
    ...patterns(draw, names),
    ...saved(draw, names),
  };
}
