/**
 * Weights in 8 bits with one scale per output channel (as in LLM.int8(), Dettmers et al., 2022, section 2.1):
 *
 *   s_j = max_i |W_ij| / 127     Q_ij = round(W_ij / s_j), in -127..127     W_ij ~ s_j Q_ij, off by at most s_j / 2
 */
import { UnsupportedError } from './errors.js';
import { isInHead } from './head.js';
import type { Model } from './contracts/model.js';
import type { Site } from './contracts/site.js';
import { floats, tensorAt, transposed, type HostTensor } from './tensors.js';

/**
 * A matrix `[in, out]` held in 8 bits. Readers see a float32 tensor: `data` computes its values each time and does not
 * keep them.
 */
export interface QuantizedTensor extends HostTensor {
  /** The type of `data`. */
  readonly dtype: 'float32';
  /** Q, `[in, out]`. */
  readonly values: Int8Array;
  /** s, `[out]`. */
  readonly scale: Float32Array;
}

/** The largest 8-bit value. -128 is not used, to keep the range symmetric. */
const INT8_MAX = 127;

/** Returns a matrix `[in, out]` in 8 bits. @throws ShapeError when it is not a matrix of floats. */
export function quantized(matrix: HostTensor): QuantizedTensor {
  const columns = transposed(matrix);
  const { weight, add } = quantizedColumns(columns.shape[1] as number, columns.shape[0] as number);
  add(floats(columns), 0);
  return weight;
}

/** An 8-bit matrix `[in, out]` that is filled column by column, so that its float32 values are never all in memory. */
interface QuantizedColumns {
  /** The matrix; complete once all columns are added. */
  readonly weight: QuantizedTensor;
  /** Adds whole columns, stored one after the other in `columns`; `start` is the index of the first. */
  add(columns: Float32Array, start: number): void;
}

/** Starts an empty 8-bit matrix. With all columns added, its `weight` equals the result of `quantized`. */
export function quantizedColumns(inFeatures: number, outFeatures: number): QuantizedColumns {
  const values = new Int8Array(inFeatures * outFeatures);
  const scale = new Float32Array(outFeatures);
  return {
    weight: quantizedTensor(values, scale, [inFeatures, outFeatures]),
    add(columns, start) {
      const count = columns.length / inFeatures;
      for (let column = 0; column < count; column++) {
        scale[start + column] = scaleOf(columns.subarray(column * inFeatures, (column + 1) * inFeatures));
      }
      for (let row = 0; row < inFeatures; row++) {
        for (let column = 0; column < count; column++) {
          const value = columns[column * inFeatures + row] as number;
          values[row * outFeatures + start + column] = rounded(value, scale[start + column] as number);
        }
      }
    },
  };
}

/** Returns whether a host tensor is held in 8 bits. */
export function isQuantized(tensor: HostTensor): tensor is QuantizedTensor {
  return 'scale' in tensor;
}

/**
 * Returns a new model whose frozen linear modules, except those of the head, are held in 8 bits. `model` is not
 * changed.
 */
export function quantizedModel<M extends Model>(model: M): M {
  const own = model.sites.filter((site) => canQuantize(site) && !isInHead(model, site.path));
  const weights = own.map(({ path }): [string, HostTensor] => {
    const name = `${path}.weight`;
    return [name, quantized(tensorAt(model.weights, name))];
  });
  return { ...model, weights: { ...model.weights, ...Object.fromEntries(weights) } };
}

/**
 * Checks that every weight of a model is float32, as required for writing weights.
 * @throws UnsupportedError naming a weight held in 8 bits.
 */
export function assertFullPrecision({ weights }: Pick<Model, 'weights'>): void {
  const [name] = Object.entries(weights).find(([, weight]) => isQuantized(weight)) ?? [];
  if (name === undefined) return;
  throw new UnsupportedError(
    `'${name}' is held in 8 bits, but only float32 weights can be written: use the model of \`await fullPrecision(peft)\``,
    name,
  );
}

/** Returns whether a module multiplies by a matrix that can be held in 8 bits. */
export function canQuantize({ kind, kernel }: Site): boolean {
  return kind === 'linear' && kernel === undefined;
}

function rounded(value: number, step: number): number {
  return step === 0 ? 0 : Math.round(value / step);
}

function scaleOf(column: Float32Array): number {
  return column.reduce((largest, value) => (Math.abs(value) > largest ? Math.abs(value) : largest), 0) / INT8_MAX;
}

function quantizedTensor(values: Int8Array, scale: Float32Array, shape: readonly number[]): QuantizedTensor {
  return {
    dtype: 'float32',
    shape,
    values,
    scale,
    get data() {
      const data = new Float32Array(values.length);
      for (let start = 0; start < data.length; start += scale.length) {
        for (let column = 0; column < scale.length; column++) {
          data[start + column] = (values[start + column] as number) * (scale[column] as number);
        }
      }
      return data;
    },
  };
}
