import { ConfigError, hostTensor, sizeOf, transposed, type HostTensor, type Site } from '@peftjs/core';
import { mersenne } from 'pure-rand/generator/mersenne';
import type { VeraConfig } from './config.js';

/** Most numbers of the two matrices together. */
const MOST_NUMBERS = 2 ** 27;

/** The frozen matrices that all modules share. */
export interface Projections {
  /** A `[widest input, r]` */
  readonly veraA: HostTensor;
  /** B `[r, widest output]` */
  readonly veraB: HostTensor;
}

/**
 * A and B by He et al. (2015): uniform within sqrt(6 / fan), the fan being what a row is summed over. They are wide enough for every
 * module, and the same numbers that PEFT draws on a processor: those of torch's Mersenne Twister, seeded by `projectionPrngKey`,
 * A before B, row by row as torch holds them.
 * @throws ConfigError when they would take more than 512 MB, which no rank of any use does.
 */
export function drawProjections(sites: readonly Site[], { r, projectionPrngKey }: VeraConfig): Projections {
  const [inFeatures, outFeatures] = widest(sites);
  const numbers = r * (inFeatures + outFeatures);
  if (numbers > MOST_NUMBERS) {
    const most = Math.floor(MOST_NUMBERS / (inFeatures + outFeatures));
    throw new ConfigError(`vera: r is ${r}; the shared matrices of these modules have room for ${most}`, 'r');
  }
  const uniform = torchUniform(projectionPrngKey);
  const loraShaped = (rows: number, columns: number): HostTensor => {
    const bound = Math.sqrt(3) * (Math.sqrt(2) / Math.sqrt(columns));
    const data = Float32Array.from({ length: sizeOf([rows, columns]) }, () => uniform(-bound, bound));
    return transposed(hostTensor(data, [rows, columns]));
  };
  const veraA = loraShaped(r, inFeatures);
  return { veraA, veraB: loraShaped(outFeatures, r) };
}

/** The largest input and the largest output of any module. */
function widest(sites: readonly Site[]): [inFeatures: number, outFeatures: number] {
  return [
    Math.max(...sites.map(({ inFeatures }) => inFeatures)),
    Math.max(...sites.map(({ outFeatures }) => outFeatures)),
  ];
}

/** Float32 numbers between two bounds as torch's `uniform_` draws them on a processor: 24 bits of each output. */
function torchUniform(seed: number): (from: number, to: number) => number {
  const generator = mersenne(seed);
  const bits = 2 ** 24;
  return (from, to) => {
    const share = ((generator.next() >>> 0) % bits) / bits; // exact in float32
    const [low, high] = [Math.fround(from), Math.fround(to)];
    return Math.fround(share * Math.fround(high - low) + low); // multiplied and added with one rounding
  };
}
