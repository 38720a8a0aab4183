import { bottleneckMethod } from './bottleneck/method.js';

/**
 * Sequential adapters in two places of every layer: after the attention's output and after the feed-forward block's, before
 * each one's residual connection and layer norm (Houlsby et al., 2019, arXiv 1902.00751).
 *
 * @example attach(model, houlsby({ bottleneck: 16 }))
 */
export const houlsby = bottleneckMethod('houlsby', ['attention.output', 'ffn.out']);
