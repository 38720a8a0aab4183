import {
  ConfigError,
  floats,
  hostTensor,
  hostZeros,
  kaimingUniform,
  loraDelta,
  normalValues,
  type HostTensor,
  type Init,
  type LoraFactors,
  type Rng,
  type Site,
} from '@peftjs/core';
import { isPartOfWeight, type LoraConfig, type LoraGaConfig } from './config.js';
import { evaFactors } from './eva.js';
import { loraGaFactors } from './lora-ga.js';
import { oloraFactors } from './olora.js';
import { orthogonalFactors } from './orthogonal.js';
import { pissaFactors } from './pissa.js';
import { rankAt, scalingOf, type Scaled } from './ranks.js';

/** What the layer of a module starts from: A `[in, r]`, B `[r, out]` and s. */
export interface Start extends LoraFactors {
  /** W0 - s A B `[in, out]`, where A and B are a part of W0 that W0 alone determines. */
  readonly residual?: HostTensor;
  /** A and B are taken out of W0 as they are, and kept for that. */
  readonly kept?: boolean;
}

/** Where the layers of an adapter start, by module path; a module that EVA leaves without a rank has no entry. */
export function startsOf(sites: readonly Site[], config: LoraConfig, init: Init): Record<string, Start> {
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

/** A uniform within 1 / sqrt(in), or normal with deviation 1 / r; B zero, or uniform within 1 / sqrt(r). */
function linearFactors(site: Site, { initLoraWeights }: LoraConfig, { r, scaling }: Scaled, rng: Rng): LoraFactors {
  const { inFeatures, outFeatures } = site;
  const loraA =
    initLoraWeights === 'gaussian' ? normalValues(rng, [inFeatures, r], 1 / r) : kaimingUniform(rng, inFeatures, r);
  const loraB = initLoraWeights === false ? kaimingUniform(rng, r, outFeatures) : hostZeros([r, outFeatures]);
  return { loraA, loraB, scaling };
}

/** A zero, or normal; B normal. */
function embeddingFactors(site: Site, { initLoraWeights }: LoraConfig, { r, scaling }: Scaled, rng: Rng): LoraFactors {
  const { inFeatures, outFeatures } = site;
  const loraA = initLoraWeights === false ? normalValues(rng, [inFeatures, r], 1) : hostZeros([inFeatures, r]);
  return { loraA, loraB: normalValues(rng, [r, outFeatures], 1), scaling };
}

/** Factors that are a part of the frozen weight, and what they leave of it. */
function partOfWeight(site: Site, config: LoraConfig, at: Scaled, init: Init): Start {
  assertRank(site, config, at);
  const { weight } = init.frozen(site.path);
  const factors = config.initLoraWeights === 'olora' ? oloraFactors(weight, at) : pissaFactors(weight, at);
  const taken = loraDelta(factors);
  const left = floats(weight).map((value, index) => value - (taken[index] as number));
  return { ...factors, residual: hostTensor(left, weight.shape) };
}

/** Factors along the gradient of the frozen weight. */
function alongGradient(site: Site, config: LoraConfig, options: LoraGaConfig, at: Scaled, init: Init): Start {
  assertRank(site, config, at);
  const module = { ...init.frozen(site.path), gradient: init.calibrated('gradients', site.path) };
  return { ...loraGaFactors(module, at, options, init.rng.fork(site.path)), kept: true };
}

/** @throws ConfigError when a weight has fewer directions than its factors need. */
function assertRank({ path, inFeatures, outFeatures }: Site, { initLoraWeights }: LoraConfig, { r }: Scaled): void {
  const needed = initLoraWeights === 'lora_ga' ? 2 * r : r;
  const most = Math.min(inFeatures, outFeatures);
  if (needed <= most) return;
  throw new ConfigError(
    `lora: initLoraWeights '${String(initLoraWeights)}' with r = ${r} takes ${needed} directions of '${path}', which has ${most}; take a smaller rank`,
    'r',
  );
}
