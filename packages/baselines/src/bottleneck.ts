import {
  defineMethod,
  fixedLayer,
  hostZeros,
  integerFrom,
  layersByPath,
  mapValues,
  narrowTargets,
  parseOptions,
  patternValue,
  positive,
  readTensors,
  targetEntries,
  tensorAt,
  tensorsAt,
  trained,
  writtenTensors,
  type AdapterContents,
  type AdapterFile,
  type AdapterLayer,
  type CallableMethod,
  type HostTensors,
  type ModuleTensors,
  type Rng,
  type Site,
  type SiteRole,
  type MethodOptions,
} from '@peftjs/core/method';
import { compactPattern, isNearBudget, ranksForBudget, sitesForBudget } from '@peftjs/core/ranks';
import { matches } from '@peftjs/core/model';
import { normalValues } from '@peftjs/core/linalg';
import { gelu, linear } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { placed, withTargets, type PlacementRule } from './placement.js';

/*
 * The bottleneck adapter (Houlsby et al., 2019, arXiv 1902.00751), in row vectors:
 *
 *   h' = h + f(h D + d) U + u           h [rows, out]: the module's output, including its bias
 *   D ~ N(0, std^2) [out, m]   d = 0 [m]
 *   U ~ N(0, std^2) [m, out]   u = 0 [out]        with a small std, h' starts near h
 *
 * It stores m (2 out + 1) + out values, or m (2 out + 1) without u, which is left out if a budget has no room for it.
 */

/** The choices of f by name. */
const nonLinearities = { gelu_new: geluNew, gelu, relu: tf.relu<Tensor>, swish } as const;

/** The name of f, which is applied element by element. */
export type NonLinearity = keyof typeof nonLinearities;

/** The dimensions and options of one adapter. */
interface BottleneckShape {
  /** m. */
  readonly bottleneck: number;
  /** The name of f. */
  readonly nonLinearity: NonLinearity;
  /** The standard deviation of the initial D and U. */
  readonly initStd: number;
  /** Whether the adapter has the bias u. */
  readonly hasUpBias: boolean;
}

/** Returns the adapter after one module. */
function bottleneckLayer(
  site: Site,
  { bottleneck, nonLinearity, initStd, hasUpBias }: BottleneckShape,
  rng: Rng,
): AdapterLayer {
  const { outFeatures } = site;
  const weight = (shape: readonly number[]) => trained(normalValues(rng, shape, initStd));
  const bias = (size: number) => trained(hostZeros([size]), { decay: false });
  return fixedLayer({
    site,
    params: {
      down: weight([outFeatures, bottleneck]),
      downBias: bias(bottleneck),
      up: weight([bottleneck, outFeatures]),
      ...(hasUpBias && { upBias: bias(outFeatures) }),
    },
    forward(_x, p, at) {
      const { down, downBias, up } = tensorsAt(p, 'down', 'downBias', 'up');
      const h = at.base(); // [rows, out]
      const hidden = nonLinearities[nonLinearity](linear(h, down, downBias)); // [rows, out] -> [rows, m]
      return tf.add(h, linear(hidden, up, p.upBias)); // [rows, out]
    },
  });
}

/** Returns the parameters of one unit of the bottleneck: a column of D, its bias and a row of U. */
function unitCost({ outFeatures }: Site): number {
  return 2 * outFeatures + 1;
}

/** Returns the parameters of u. */
function biasCost({ outFeatures }: Site): number {
  return outFeatures;
}

/** The tanh approximation of GELU: x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2. */
function geluNew(x: Tensor): Tensor {
  const cubed = tf.mul(x, tf.square(x));
  const inner = tf.mul(tf.add(x, tf.mul(cubed, 0.044715)), Math.sqrt(2 / Math.PI));
  return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(inner), 1));
}

/** x sigmoid(x). */
function swish(x: Tensor): Tensor {
  return tf.mul(x, tf.sigmoid(x));
}

const entries = {
  ...targetEntries,
  /** m, the width of the bottleneck. Default 16. */
  bottleneck: v.optional(integerFrom(1), 16),
  /** Widths that differ from `bottleneck`, by module path or a regular expression for its end. Default {}. */
  bottleneckPattern: v.optional(v.record(v.string(), integerFrom(1)), {}),
  /** Modules whose adapters have no bias u, by path or dotted suffix. Default []. */
  withoutBias: v.optional(v.array(v.string()), []),
  /** The non-linearity in the bottleneck. Default 'gelu_new'. */
  nonLinearity: v.optional(v.picklist(Object.keys(nonLinearities) as NonLinearity[]), 'gelu_new'),
  /** The standard deviation of the initial weights. Default 0.01, which starts near the identity. */
  initStd: v.optional(positive, 0.01),
};

/** The options of the bottleneck adapters. */
export type BottleneckConfig = MethodOptions<typeof entries>;

/** Returns the method that puts a bottleneck adapter after every module with one of these roles. */
function bottleneckMethod(name: string, roles: readonly SiteRole[]): CallableMethod<BottleneckConfig> {
  const rule: PlacementRule = {
    picks: ({ role }) => roles.includes(role),
    words: `with the role ${roles.map((role) => `'${role}'`).join(' or ')}`,
  };
  const peftType = name.toUpperCase();
  return defineMethod<BottleneckConfig>({
    name,
    capabilities: { mergeable: false, identityAtInit: false, adaptsRank: false, kinds: ['linear'] },
    parseConfig: (input): BottleneckConfig => withTargets(parseOptions(name, entries, input)),
    fitBudget: (sites, budget, config) => fittedToBudget(placed(sites, config, rule), budget, config),
    adapt: (sites, config, { rng }) =>
      layersByPath(
        placed(sites, config, rule).map((site) => {
          const bottleneck = patternValue(config.bottleneckPattern, site.path) ?? config.bottleneck;
          const hasUpBias = !matches(site, config.withoutBias);
          return bottleneckLayer(site, { ...config, bottleneck, hasUpBias }, rng.fork(site.path));
        }),
      ),
    peftTypes: [peftType],
    toFile: (adapter) => bottleneckFile(peftType, adapter),
    fromFile: readBottleneckFile,
  });
}

/** The sizes of adapters, and the parameters they store together. */
interface Sizes extends Pick<BottleneckConfig, 'bottleneck' | 'bottleneckPattern' | 'withoutBias'> {
  /** The parameters of all adapters. */
  readonly stored: number;
}

/**
 * Returns the configuration whose adapters store, and train, as close to a budget as possible. To come within 2 %, it
 * changes as little as possible, in this order: the widths; the biases u, from the input upwards; the number of
 * adapters, if width 1 without biases is too large everywhere.
 *
 * @param sites the modules after which the method puts its adapters
 * @throws ConfigError when the budget does not pay for one adapter.
 */
function fittedToBudget(sites: readonly Site[], budget: number, config: BottleneckConfig): BottleneckConfig {
  const kept = sitesForBudget(sites, budget, unitCost);
  const { stored: _, ...sizes } = nearestSizes(kept, budget);
  return { ...narrowTargets(kept, config, sites), ...sizes };
}

/** Returns the sizes with the fewest biases left out that are within 2 % of a budget, or else the nearest ones. */
function nearestSizes(sites: readonly Site[], budget: number): Sizes {
  const tried: Sizes[] = [];
  for (let without = 0; without <= sites.length; without++) {
    const sizes = sizesWithout(without, sites, budget);
    if (sizes && isNearBudget(sizes.stored, budget)) return sizes;
    if (sizes) tried.push(sizes);
  }
  const distance = ({ stored }: Sizes): number => Math.abs(stored - budget);
  return tried.reduce((nearest, other) => (distance(other) < distance(nearest) ? other : nearest));
}

/** Returns the widths with the first `biases` biases left out, or undefined if even width 1 is too large. */
function sizesWithout(biases: number, sites: readonly Site[], budget: number): Sizes | undefined {
  const biased = sites.slice(biases).reduce((sum, site) => sum + biasCost(site), 0);
  const narrowest = sites.reduce((sum, site) => sum + unitCost(site), 0);
  const left = budget - biased;
  if (left < narrowest && !isNearBudget(narrowest, left)) return undefined;
  const { r, rankPattern, cost } = ranksForBudget(sites, left, unitCost);
  const withoutBias = sites.slice(0, biases).map(({ path }) => path);
  return { bottleneck: r, bottleneckPattern: rankPattern, withoutBias, stored: biased + cost };
}

/** An adapter on disk: two linear modules. Those in `without_bias` do not have the last bias. */
const TENSORS: ModuleTensors = {
  down: ['.adapter_down.weight', 'm', 'out'],
  downBias: ['.adapter_down.bias', 'm'],
  up: ['.adapter_up.weight', 'out', 'm'],
  upBias: ['.adapter_up.bias', 'out'],
};

function bottleneckFile(peftType: string, { config, layers, values }: AdapterContents<BottleneckConfig>): AdapterFile {
  const widths = mapValues(layers, (_, path) => tensorAt(values, `${path}.down`).shape[1] as number);
  return {
    config: {
      peft_type: peftType,
      bottleneck: config.bottleneck,
      bottleneck_pattern: compactPattern(widths, config.bottleneck),
      without_bias: Object.keys(layers).filter((path) => !values[`${path}.upBias`]),
      non_linearity: config.nonLinearity,
      target_modules: Object.keys(layers),
    },
    tensors: writtenTensors({ layers, values }, TENSORS),
  };
}

/** Reads such a file. Widths come from the tensors' shapes. */
function readBottleneckFile(file: AdapterFile): { config: Partial<BottleneckConfig>; values: HostTensors } {
  const { without_bias: without, non_linearity: nonLinearity } = file.config;
  const isWithout = (path: string): boolean => Array.isArray(without) && without.includes(path);
  const { targetModules, values, sizes } = readTensors(file, TENSORS, (path, name) => {
    return name === 'upBias' && isWithout(path);
  });
  const widths = mapValues(sizes, (own) => tensorAt(own, 'm'));
  const bottleneck = tensorAt(widths, targetModules[0] as string);
  return {
    config: {
      bottleneck,
      bottleneckPattern: compactPattern(widths, bottleneck),
      withoutBias: targetModules.filter(isWithout),
      nonLinearity: nonLinearity as NonLinearity, // validated with the other options
      targetModules,
    },
    values,
  };
}

/**
 * Houlsby adapters (Houlsby et al., 2019, arXiv 1902.00751): two sequential adapters per layer, after the outputs of
 * attention and of the feed-forward block, before the residual connection and layer norm of each.
 *
 * @example attach(model, houlsby({ bottleneck: 16 }))
 */
export const houlsby = bottleneckMethod('houlsby', ['attention.output', 'ffn.out']);

/**
 * Pfeiffer adapters (Pfeiffer et al., 2021, arXiv 2005.00247): one sequential adapter per layer, after the output of
 * the feed-forward block.
 *
 * @example attach(model, pfeiffer({ bottleneck: 32 }))
 */
export const pfeiffer = bottleneckMethod('pfeiffer', ['ffn.out']);
