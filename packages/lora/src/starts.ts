import {
  ConfigError,
  mapTensor,
  hostZeros,
  tensorsAt,
  type HostTensor,
  type HostTensors,
  type Init,
  type LoraFactors,
  type Rng,
  type Site,
} from '@peftjs/core/method';
import { isQuantized } from '@peftjs/core/model';
import { fullRank, rankCost, ranksThatFill, selectWithinBudget, type ModuleRank } from '@peftjs/core/ranks';
import {
  joinFactors,
  kaimingUniform,
  loraDelta,
  matrixProduct,
  normalValues,
  pickColumns,
  pickRows,
  qr,
  scaleColumns,
  scaled,
  transposed,
  truncatedSvd,
} from '@peftjs/core/linalg';
import { linear } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import {
  isPartOfWeight,
  rankAt,
  scalingOf,
  type EvaConfig,
  type LoraConfig,
  type LoraGaConfig,
  type Scaled,
} from './config.js';
import type { LoraChange, Start } from './layer.js';

/** Returns the initial factors of all modules by path. A module to which EVA gives no rank has no entry. */
export function initialFactors(sites: readonly Site[], config: LoraConfig, init: Init): Record<string, Start> {
  const { evaConfig } = config;
  const byEva = evaConfig ? sites.filter(({ kind }) => kind === 'linear') : [];
  const others = sites.filter((site) => !byEva.includes(site));
  return {
    ...(evaConfig && evaFactors(byEva, config, evaConfig, init)),
    ...Object.fromEntries(others.map((site) => [site.path, startOf(site, config, init)])),
  };
}

function startOf(site: Site, config: LoraConfig, init: Init): Start {
  const rank = rankAt(config, site.path);
  const at = { r: rank.r, scaling: scalingOf(config, rank) };
  const rng = init.rng.fork(site.path);
  if (site.kind === 'embedding') return embeddingFactors(site, config, at, rng);
  if (isPartOfWeight(config.initLoraWeights)) return partOfWeight(site, config, at, init);
  if (config.loraGaConfig) return alongGradient(site, config, config.loraGaConfig, at, init);
  if (config.initLoraWeights === 'orthogonal') return orthogonalFactors(site, at, rng);
  return { ...linearFactors(site, config, at, rng), kept: config.initLoraWeights === 'stored' };
}

/** A uniform within 1 / sqrt(in), or normal with standard deviation 1 / r; B zero, or uniform within 1 / sqrt(r). */
function linearFactors(site: Site, { initLoraWeights }: LoraConfig, { r, scaling }: Scaled, rng: Rng): LoraFactors {
  const { inFeatures, outFeatures } = site;
  const loraA =
    initLoraWeights === 'gaussian' ? normalValues(rng, [inFeatures, r], 1 / r) : kaimingUniform(rng, inFeatures, r);
  const loraB = initLoraWeights === false ? kaimingUniform(rng, r, outFeatures) : hostZeros([r, outFeatures]);
  return { loraA, loraB, scaling };
}

/** A zero or normal; B normal. */
function embeddingFactors(site: Site, { initLoraWeights }: LoraConfig, { r, scaling }: Scaled, rng: Rng): LoraFactors {
  const { inFeatures, outFeatures } = site;
  const loraA = initLoraWeights === false ? normalValues(rng, [inFeatures, r], 1) : hostZeros([inFeatures, r]);
  return { loraA, loraB: normalValues(rng, [r, outFeatures], 1), scaling };
}

/** Returns factors that are a part of the frozen weight. */
function partOfWeight(site: Site, config: LoraConfig, at: Scaled, init: Init): Start {
  assertRank(site, config, at);
  const { weight } = init.frozen(site.path);
  const factors = config.initLoraWeights === 'olora' ? oloraFactors(site, weight, at) : pissaFactors(weight, at);
  return subtracted({ ...factors, isRounded: isQuantized(weight) }, weight);
}

/** Returns a start with what its factors leave of a weight. */
export function subtracted(start: Start, weight: HostTensor): Start {
  const delta = loraDelta(start);
  return { ...start, residual: mapTensor(weight, (value, index) => value - (delta[index] as number)) };
}

/** Returns factors along the gradient of the frozen weight. */
function alongGradient(site: Site, config: LoraConfig, options: LoraGaConfig, at: Scaled, init: Init): Start {
  assertRank(site, config, at);
  const module = { ...init.frozen(site.path), gradient: init.calibrated('gradients', site.path) };
  return { ...loraGaFactors(module, at, options, init.rng.fork(site.path)), kept: true };
}

/** @throws ConfigError when the weight has fewer singular directions than its factors need. */
function assertRank(site: Site, { initLoraWeights }: LoraConfig, { r }: Scaled): void {
  const needed = initLoraWeights === 'lora_ga' ? 2 * r : r;
  const most = fullRank(site);
  if (needed <= most) return;
  throw new ConfigError(
    `lora: initLoraWeights '${String(initLoraWeights)}' with r = ${r} needs ${needed} directions of '${site.path}', which has ${most}; use a smaller rank`,
    'r',
  );
}

/*
 * PiSSA (Meng et al., 2024, arXiv 2404.02948), in row vectors:
 *
 *   W0 = U S V^T                        U [in, k]   V [out, k]
 *   A  = U_r sqrt(S_r / s)              [in, r]
 *   B  = sqrt(S_r / s) V_r^T            [r, out], so that s A B is the best approximation of W0 by rank r
 */

/**
 * Returns the principal part of a weight [in, out] as factors of rank r.
 * @throws ConfigError when the weight is not finite.
 */
function pissaFactors(weight: HostTensor, { r, scaling }: Scaled): LoraFactors {
  const { u, s, v } = truncatedSvd(weight, r);
  const roots = s.map((value) => Math.sqrt(value / scaling));
  return { loraA: scaleColumns(u, roots), loraB: transposed(scaleColumns(v, roots)), scaling };
}

/*
 * OLoRA (Büyükakyüz, 2024, arXiv 2406.01775), in row vectors:
 *
 *   W0^T = Q R                          Q [out, k]   R [k, in]
 *   A = R_r^T                           [in, r], the first r rows of R
 *   B = Q_r^T                           [r, out], the first r columns of Q: orthonormal
 *
 * PEFT subtracts the product of the weight as it is stored, when it loads a file too: for a transformers Conv1D,
 * W0 = Q R, A = Q_r and B = R_r, so that the first output is the original one. PEFT swaps these two.
 */

/**
 * Returns the leading part of a weight [in, out] as factors of rank r.
 * @throws ConfigError when the weight is not finite.
 */
function oloraFactors({ fanInFanOut }: Site, weight: HostTensor, { r, scaling }: Scaled): LoraFactors {
  if (fanInFanOut) {
    const { q, r: triangle } = qr(weight, r); // [in, r], [r, out]
    return { loraA: q, loraB: triangle, scaling };
  }
  const { q, r: triangle } = qr(transposed(weight), r); // [out, r], [r, in]
  return { loraA: transposed(triangle), loraB: transposed(q), scaling };
}

/*
 * Orthogonal initialization, as in PEFT, in row vectors:
 *
 *   Q [r, r] orthogonal                 from the QR decomposition of a normal matrix
 *   A = X Q_odd / 10                    [in, r]     X [in, r / 2] normal, Q_odd: rows 0, 2, .. of Q
 *   B = Q_even^T Y / 10                 [r, out]    Y [r / 2, out] normal, Q_even: rows 1, 3, ..
 *
 * Neither is zero, but A B = X Q_odd Q_even^T Y / 100 = 0.
 */

/** Returns factors whose product is zero. @throws ConfigError when the rank is odd. */
function orthogonalFactors(site: Site, { r, scaling }: Scaled, rng: Rng): LoraFactors {
  if (r % 2 !== 0) {
    throw new ConfigError(
      `lora: initLoraWeights 'orthogonal' needs an even rank, '${site.path}' has ${r}`,
      'rankPattern',
    );
  }
  const half = Array.from({ length: r / 2 }, (_, index) => index);
  const { q } = qr(normalValues(rng, [r, r], 1));
  const [odd, even] = [0, 1].map((first) => half.map((index) => 2 * index + first)) as [number[], number[]];
  const x = normalValues(rng, [site.inFeatures, r / 2], 1);
  const y = normalValues(rng, [r / 2, site.outFeatures], 1);
  return {
    loraA: matrixProduct(x, pickRows(q, odd), 0.1),
    loraB: matrixProduct(transposed(pickRows(q, even)), y, 0.1),
    scaling,
  };
}

/*
 * EVA (Paischer et al., 2024, arXiv 2410.07170), in row vectors:
 *
 *   X = U S V^T                         X [rows, in]: a module's input; V [in, k]: the eigenvectors of X^T X
 *   A = V_r, B = 0                      [in, r], [r, out]
 *   e_i = S_i^2 / sum S^2               the share of X that direction i explains
 *   r_k                                 how many of module k's first rho r directions are among the best of all, by e_i
 *   alpha_k = alpha r_k / r             keeps alpha / r constant: `adjustScalingFactors`
 */

/** A module and its candidate directions, best first. */
interface Candidate {
  /** The module. */
  readonly site: Site;
  /** Its rank and alpha before ranks move. */
  readonly initial: ModuleRank;
  /** V, [in, most]. */
  readonly directions: HostTensor;
  /** The share that each direction explains: e_1, e_2, .. */
  readonly explained: readonly number[];
}

/**
 * Returns the factors of all modules, with ranks moved to where they explain most. Modules without a rank are left out.
 */
function evaFactors(
  sites: readonly Site[],
  config: LoraConfig,
  options: EvaConfig,
  init: Init,
): Record<string, LoraFactors> {
  const candidates = sites.map((site) => candidateOf(site, config, options, init));
  const ranks = redistributedRanks(candidates, options);
  return Object.fromEntries(
    candidates.flatMap(({ site, initial, directions }, index) => {
      const r = ranks[index] as number;
      const alpha = options.adjustScalingFactors ? (initial.alpha * r) / initial.r : initial.alpha;
      const loraA = pickColumns(directions, [...Array(r).keys()]); // [in, r]
      const loraB = hostZeros([r, site.outFeatures]);
      return r === 0 ? [] : [[site.path, { loraA, loraB, scaling: scalingOf(config, { r, alpha }) }] as const];
    }),
  );
}

function candidateOf(site: Site, config: LoraConfig, { rho }: EvaConfig, init: Init): Candidate {
  const initial = rankAt(config, site.path);
  const moment = init.calibrated('activations', site.path); // X^T X / rows, [in, in]
  const most = Math.min(Math.round(initial.r * rho), site.inFeatures);
  const { u, s } = truncatedSvd(moment, most);
  const total = traceOf(moment);
  return { site, initial, directions: u, explained: Array.from(s, (value) => (total > 0 ? value / total : 0)) };
}

/** Returns the number of directions that each module gets. */
function redistributedRanks(candidates: readonly Candidate[], { budgetUnit }: EvaConfig): number[] {
  const costOf = (site: Site): number => (budgetUnit === 'ranks' ? 1 : rankCost(site));
  const budget = candidates.reduce((sum, { site, initial }) => sum + initial.r * costOf(site), 0);
  const offered = candidates.flatMap(({ site, explained }, module) =>
    explained.map((value) => ({ module, value, cost: costOf(site) })),
  );
  const selected = budgetUnit === 'ranks' ? selectWithinBudget(offered, budget) : ranksThatFill(offered, budget);
  return candidates.map((_, index) => selected.filter(({ module }) => module === index).length);
}

/** Returns sum S^2 / rows. */
function traceOf({ shape, data }: HostTensor): number {
  const [size = 0] = shape;
  return Array.from({ length: size }, (_, index) => data[index * size + index] as number).reduce((a, b) => a + b, 0);
}

/*
 * LoRA-GA (Wang et al., 2024, arXiv 2407.05000), as in PEFT, in row vectors:
 *
 *   dL/dW0 = U S V^T                    U [in, 2 r]   V [out, 2 r], of the first 2 r singular values
 *   A = a U_I                           [in, r]       I and J: r indices each, by `direction`
 *   B = b (V_J S_J)^T                   [r, out]      a and b: numbers, by `scale`
 *
 *   y = x W0 + b - s (x A0) B0 + c(x')  forward       A0, B0: the initial A and B, the state `startA` and `startB`
 *
 * A loaded model has no gradient from which to recompute W0 - s A0 B0, so A0 and B0 are kept with the adapter.
 */

/** A module's weight [in, out] and its gradient over some batches. */
interface Module {
  /** W0, [in, out]. */
  readonly weight: HostTensor;
  /** dL/dW0, [in, out]. */
  readonly gradient: HostTensor;
}

/** Returns factors of rank r along the gradient of a weight. 2 r is at most the smaller side. */
function loraGaFactors(module: Module, { r, scaling }: Scaled, config: LoraGaConfig, rng: Rng): LoraFactors {
  const { u, s, v } = truncatedSvd(module.gradient, 2 * r);
  const [ofA, ofB] = directions(config, r, rng);
  const singular = ofB.map((index) => s[index] as number);
  const [a, b] = scales(config, module.weight, singular[0] as number, scaling);
  const sizes = singular.map((value) => b * value);
  const right = scaleColumns(pickColumns(v, ofB), sizes); // [out, r]
  return { loraA: scaled(pickColumns(u, ofA), a), loraB: transposed(right), scaling };
}

/** Returns I and J. */
function directions({ direction }: LoraGaConfig, r: number, rng: Rng): [number[], number[]] {
  const first = Array.from({ length: r }, (_, index) => index);
  const second = first.map((index) => r + index);
  switch (direction) {
    case 'ArB2r':
      return [first, second];
    case 'A2rBr':
      return [second, first];
    case 'ArBr':
      return [first.map((index) => 2 * index + 1), first.map((index) => 2 * index)];
    case 'random': {
      const drawn = [...rng.permutation(2 * r)].slice(0, r);
      return [drawn, drawn];
    }
  }
}

/** Returns a and b. `largest` is the first of the singular values used in B. */
function scales(
  { scale, stableGamma }: LoraGaConfig,
  weight: HostTensor,
  largest: number,
  scaling: number,
): [number, number] {
  switch (scale) {
    case 'stable':
      return [1, (weight.shape[1] as number) ** 0.25 / Math.sqrt(stableGamma)];
    case 'weight_svd':
      return [1, largest > 0 ? (truncatedSvd(weight, 1).s[0] as number) / largest : 1];
    case 'gd_scale':
      return [1 / scaling, 1 / scaling];
    case 'unit':
      return [1, 1];
  }
}

/** Returns the change with the frozen module's s A0 B0 subtracted, and A0 and B0 as state. */
export function subtractStart(change: LoraChange, start: LoraFactors): LoraChange {
  const { scaling } = change;
  const negated = (values: HostTensors): LoraFactors => {
    const { startA, startB } = tensorsAt(values, 'startA', 'startB');
    return { loraA: startA, loraB: startB, scaling: -scaling };
  };
  return {
    ...change,
    state: { startA: { initial: start.loraA }, startB: { initial: start.loraB } },
    storedRanks: 2 * change.storedRanks,
    frozen(x, p, at) {
      const { startA, startB } = tensorsAt(p, 'startA', 'startB');
      const without = (y: Tensor, read = x): Tensor => tf.sub(y, tf.mul(linear(linear(read, startA), startB), scaling)); // [rows, out]
      return {
        ...at,
        base: () => without(at.base()),
        run: (instead) => without(at.run(instead), instead.x),
        weight: () => tf.sub(at.weight(), tf.mul(tf.matMul(startA, startB), scaling)), // [in, out]
      };
    },
    factors: (values) => joinFactors(change.trainedFactors(values), negated(values)),
  };
}
