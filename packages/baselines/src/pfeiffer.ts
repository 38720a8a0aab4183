import { bottleneckMethod } from './bottleneck/method.js';

/**
 * One sequential adapter per layer, after the feed-forward block's output (Pfeiffer et al., 2021, arXiv 2005.00247).
 *
 * @example attach(model, pfeiffer({ bottleneck: 32 }))
 */
export const pfeiffer = bottleneckMethod('pfeiffer', ['ffn.out']);
