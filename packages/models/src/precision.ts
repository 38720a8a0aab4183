import { ConfigError, quantized, sizeOf, takesQuantized, type HostTensor } from '@peftjs/core';
import type { Network } from './architecture.js';
import { shown } from './json.js';

/**
 * How weights are held in memory, as transformers.js names it: as float32, or the matrices of linear modules in 8 bits with a
 * scale for each output, a quarter of the size. The head is trained, and float32 in either case.
 */
export type WeightDtype = 'fp32' | 'q8';

const DTYPES: readonly string[] = ['fp32', 'q8'] satisfies WeightDtype[];

/** What becomes of a network's weights as they are read. */
export interface Precision {
  /** The memory that a weight takes. */
  bytes(name: string, shape: readonly number[]): number;
  /** A weight as it is held. */
  hold(name: string, weight: HostTensor): HostTensor;
}

/** How the weights of a network are held; those of modules that are none of it, its head's, as float32. */
export function precisionOf(
  dtype: WeightDtype,
  { sites, encodeOnly }: Pick<Network, 'sites' | 'encodeOnly'>,
): Precision {
  const own = dtype === 'q8' ? [...sites, ...encodeOnly].filter(takesQuantized) : [];
  const names = new Set(own.map(({ path }) => `${path}.weight`));
  const scales = (shape: readonly number[]): number => (shape.at(-1) ?? 0) * Float32Array.BYTES_PER_ELEMENT;
  return {
    bytes: (name, shape) =>
      names.has(name) ? sizeOf(shape) + scales(shape) : sizeOf(shape) * Float32Array.BYTES_PER_ELEMENT,
    hold: (name, weight) => (names.has(name) ? quantized(weight) : weight),
  };
}

/** @throws ConfigError for a type that weights are not held in. */
export function parsedDtype(dtype: WeightDtype = 'fp32'): WeightDtype {
  if (DTYPES.includes(dtype)) return dtype;
  throw new ConfigError(
    `fromPretrained: option 'dtype' is ${shown(dtype)}; expected 'fp32' or 'q8': weights are held so whatever the file has`,
    'dtype',
  );
}
