import { linear } from '../nn/linear.js';
import type { AdapterLayer, FrozenModule, ParamSpec } from '../contracts/method.js';
import type { Site } from '../contracts/site.js';
import { sizeOf } from '../tensors.js';

/** A linear module trained whole: the head, `modulesToSave`, full fine-tuning. */
export function fullModule(site: Site, initial: FrozenModule, group: string): AdapterLayer {
  const params: Record<string, ParamSpec> = {
    weight: { initial: initial.weight, trainable: true, group, decay: true },
  };
  if (initial.bias) params.bias = { initial: initial.bias, trainable: true, group, decay: false };
  const parameters = Object.values(params).reduce((sum, { initial: { shape } }) => sum + sizeOf(shape), 0);
  return {
    site,
    params,
    forward: (x, p) => linear(x, p.weight as NonNullable<typeof p.weight>, p.bias),
    storedParameters: () => parameters,
  };
}
