import { toFloat16 } from '@peftjs/safetensors';
import { BLOCKS, byteLengthOf, type GgufTensor } from './blocks.js';
import { GgufError } from './errors.js';

/** The types to which float32 values are converted. */
export type EncodedType = 'F32' | 'F16' | 'Q8_0';

/**
 * Converts float32 values to a tensor, with the same bits as the Python package `gguf`: F16 rounds to nearest, Q8_0
 * holds a scale and 32 integers of 8 bits in each block.
 * @param values In row-major order.
 * @throws GgufError when they do not fill the shape, or when the last axis is not a multiple of a block.
 */
export function fromFloat32(type: EncodedType, shape: readonly number[], values: Float32Array): GgufTensor {
  const bytes = byteLengthOf('', { type, shape });
  const count = (bytes / BLOCKS[type].bytes) * BLOCKS[type].values;
  if (values.length !== count) {
    throw new GgufError(`shape [${shape.join(', ')}] has ${count} values, got ${values.length}`);
  }
  const data = new Uint8Array(bytes);
  ENCODERS[type](values, new DataView(data.buffer));
  return { type, shape, data };
}

const ENCODERS: { readonly [T in EncodedType]: (values: Float32Array, view: DataView) => void } = {
  F32: (values, view) => {
    values.forEach((value, i) => {
      view.setFloat32(4 * i, value, true);
    });
  },
  F16: (values, view) => {
    toFloat16(values).forEach((half, i) => {
      view.setUint16(2 * i, half, true);
    });
  },
  Q8_0: (values, view) => {
    const { values: width, bytes } = BLOCKS.Q8_0;
    for (let from = 0, to = 0; from < values.length; from += width, to += bytes) {
      encodeQ8(values.subarray(from, from + width), view, to);
    }
  },
};

/** Every step is rounded to float32, as in llama.cpp. */
function encodeQ8(values: Float32Array, view: DataView, to: number): void {
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const scale = Math.fround(largest / 127);
  const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
  view.setUint16(to, toFloat16([scale])[0] as number, true);
  values.forEach((value, i) => {
    const scaled = Math.fround(value * inverse);
    view.setInt8(to + 2 + i, Math.sign(scaled) * Math.floor(Math.abs(scaled) + 0.5));
  });
}
