// Your own method: scales each output of a module by a learned factor, y = (x W0 + b) * (1 + s), initially s = 0.
import { hostTensor } from '@peftjs/core';
import {
  defineMethod,
  fileFormat,
  fixedLayer,
  floats,
  hostZeros,
  parseOptions,
  targetEntries,
  tensorAt,
  trained,
  type AdapterLayer,
  type CallableMethod,
  type HostTensor,
  type HostTensors,
  type Site,
  type TargetConfig,
} from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs-core';

/** Output scaling: one factor per output of a module. */
export const scale: CallableMethod = defineMethod<TargetConfig>({
  name: 'scale',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: false, kinds: ['linear'] },
  parseConfig: (input) => parseOptions('scale', targetEntries, input),
  adapt: (sites, _config, { frozen }) =>
    Object.fromEntries(sites.map((site) => [site.path, layer(site, frozen(site.path).bias !== undefined)])),
  ...fileFormat({ peftType: 'SCALE', tensors: { scale: ['.scale', 'out'] } }),
});

function layer(site: Site, hasBias: boolean): AdapterLayer {
  const factors = (values: HostTensors) => floats(tensorAt(values, 'scale'));
  const scaled = (values: HostTensors, bias: HostTensor) =>
    hostTensor(
      floats(bias).map((value, j) => value * (1 + (factors(values)[j] ?? 0))),
      [site.outFeatures],
    );
  return fixedLayer({
    site,
    params: { scale: trained(hostZeros([site.outFeatures])) },
    forward: (_x, p, at) => tf.mul(at.base(), tf.add(tensorAt(p, 'scale'), 1)), // [rows, out] * [out]
    deltaWeight: (values, { weight }) =>
      floats(weight).map((value, index) => value * (factors(values)[index % site.outFeatures] ?? 0)), // [in, out]
    ...(hasBias && { mergedBias: (values, { bias }) => scaled(values, bias as HostTensor) }),
    mergedAddedBias: scaled, // of a module that has no bias, where an earlier adapter has added one
  });
}
