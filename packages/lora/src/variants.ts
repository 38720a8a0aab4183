import type { FrozenModule, Site } from '@peftjs/core';
import { withOwnBias, withTrainedBias } from './bias.js';
import type { LoraConfig } from './config.js';
import { doraLayer } from './dora.js';
import { changeOf, plainLayer, type LoraLayer } from './layer.js';
import { withFrozenA } from './lora-fa.js';
import { withKeptStart } from './lora-ga.js';
import type { Start } from './starts.js';

/** The layer of an adapted module, with the variants that the configuration asks for. */
export function loraLayer(site: Site, config: LoraConfig, start: Start, frozen: FrozenModule): LoraLayer {
  const change = start.kept ? withKeptStart(changeOf(site, config, start), start) : changeOf(site, config, start);
  let layer = config.useDora ? doraLayer(change, frozen) : plainLayer(change);
  if (config.loraBias) layer = withOwnBias(layer);
  if (config.bias !== 'none' && frozen.bias) layer = withTrainedBias(layer, frozen.bias);
  if (config.loraFa && site.kind === 'linear') layer = withFrozenA(layer);
  return layer;
}
