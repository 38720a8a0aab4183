import * as tf from '@tensorflow/tfjs';
import type { AdapterLayer, LoraFactors } from '../contracts/method.js';
import type { Site } from '../contracts/site.js';
import * as nn from '../nn/index.js';
import { tensorsAt, type HostTensor } from '../tensors.js';
import { rankCost } from './budget.js';

/** A change of low rank as a layer that adds it to what the module gives: y = base + scaling (x A) B. Nothing of it is trained. */
export function lowRankLayer(site: Site, { loraA, loraB, scaling }: LoraFactors): AdapterLayer {
  const rank = loraA.shape[1] as number;
  const fixed = (initial: HostTensor) => ({ initial, trainable: false, group: 'default', decay: false });
  return {
    site,
    params: { loraA: fixed(loraA), loraB: fixed(loraB) },
    forward(x, p, at) {
      const { loraA, loraB } = tensorsAt(p, 'loraA', 'loraB');
      const hidden = site.kind === 'embedding' ? nn.embedding(loraA, x) : nn.linear(x, loraA); // [.., in] or ids -> [.., r]
      return tf.add(at.base(), tf.mul(nn.linear(hidden, loraB), scaling)); // [.., out]
    },
    toLora: (values) => ({ ...tensorsAt(values, 'loraA', 'loraB'), scaling }),
    storedParameters: () => rank * rankCost(site),
    rank: () => rank,
  };
}
