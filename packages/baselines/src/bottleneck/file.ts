import {
  adaptedPaths,
  assertFeatures,
  CheckpointError,
  compactPattern,
  matrixOf,
  tensorAt,
  transposed,
  warnOfUnknownTensors,
  type AdapterContents,
  type AdapterFile,
  type HostTensor,
  type HostTensors,
} from '@peftjs/core';
import type { BottleneckConfig } from './config.js';

const DOWN = '.adapter_down.weight';
const DOWN_BIAS = '.adapter_down.bias';
const UP = '.adapter_up.weight';
const UP_BIAS = '.adapter_up.bias';
const SUFFIXES = [DOWN, DOWN_BIAS, UP, UP_BIAS];

/**
 * Two linear modules per adapter, as torch holds them: `adapter_down` [m, out] and [m], `adapter_up` [out, m] and [out]. Those
 * of `without_bias` have no bias of `adapter_up`.
 */
export function bottleneckFile(
  peftType: string,
  { config, layers, values }: AdapterContents<BottleneckConfig>,
): AdapterFile {
  const tensors: HostTensors = {};
  const widths: Record<string, number> = {};
  for (const path of Object.keys(layers)) {
    const down = tensorAt(values, `${path}.down`);
    widths[path] = down.shape[1] as number;
    tensors[path + DOWN] = transposed(down); // [out, m] -> [m, out]
    tensors[path + DOWN_BIAS] = tensorAt(values, `${path}.downBias`);
    tensors[path + UP] = transposed(tensorAt(values, `${path}.up`)); // [m, out] -> [out, m]
    const upBias = values[`${path}.upBias`];
    if (upBias) tensors[path + UP_BIAS] = upBias;
  }
  return {
    config: {
      peft_type: peftType,
      bottleneck: config.bottleneck,
      bottleneck_pattern: compactPattern(widths, config.bottleneck),
      without_bias: Object.keys(layers).filter((path) => !values[`${path}.upBias`]),
      non_linearity: config.nonLinearity,
      target_modules: Object.keys(layers),
    },
    tensors,
  };
}

/**
 * Reads such a file. Widths come from the tensors' shapes.
 * @throws CheckpointError naming the tensor that is missing or has an impossible shape.
 */
export function readBottleneckFile(file: AdapterFile): {
  config: Partial<BottleneckConfig>;
  values: HostTensors;
} {
  const { config, tensors } = file;
  const paths = adaptedPaths(tensors, SUFFIXES);
  warnOfUnknownTensors(tensors, paths, SUFFIXES);
  const withoutBias = Array.isArray(config.without_bias) ? (config.without_bias as unknown[]) : [];
  const values: HostTensors = {};
  const widths: Record<string, number> = {};
  for (const path of paths) {
    const down = matrixOf(tensors, path + DOWN); // [m, out]
    const up = matrixOf(tensors, path + UP); // [out, m]
    for (const outFeatures of [down.shape[1], up.shape[0]] as number[]) assertFeatures(file, path, { outFeatures });
    widths[path] = down.shape[0] as number;
    values[`${path}.down`] = transposed(down);
    values[`${path}.downBias`] = vectorOf(tensors, path + DOWN_BIAS);
    values[`${path}.up`] = transposed(up);
    if (!withoutBias.includes(path)) values[`${path}.upBias`] = vectorOf(tensors, path + UP_BIAS);
  }
  const [bottleneck] = Object.values(widths);
  if (bottleneck === undefined) throw new CheckpointError(`the file holds no tensor '<module>${DOWN}'`, DOWN);
  return {
    config: {
      bottleneck,
      bottleneckPattern: compactPattern(widths, bottleneck),
      withoutBias: paths.filter((path) => withoutBias.includes(path)),
      nonLinearity: config.non_linearity as BottleneckConfig['nonLinearity'], // checked with the other options
      targetModules: paths,
    },
    values,
  };
}

function vectorOf(tensors: HostTensors, key: string): HostTensor {
  const tensor = tensors[key];
  if (!tensor) throw new CheckpointError(`the tensor '${key}' is missing`, key);
  if (tensor.shape.length === 1) return tensor;
  throw new CheckpointError(`'${key}' has shape [${tensor.shape.join(', ')}]; expected a vector`, key);
}
