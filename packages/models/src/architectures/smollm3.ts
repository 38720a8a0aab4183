import type { RotaryLayer } from '../rotary-config.js';
import { ropeSettings } from '../rope.js';
import { boolean, listOf, positiveInteger, orNull, setting, type ConfigFile } from '../transformers/config.js';
import { decoderType, layerTypes, llamaBiases, typedLayers, type DecoderSettings } from './decoder-settings.js';

/**
 * SmolLM3 as saved by transformers: Llama's network without positions in every fourth layer (NoPE; Yang et al., 2025).
 * Missing settings default to those of SmolLM3 3B, as in transformers.
 */
export const smollm3Type = decoderType({
  name: 'smollm3',
  savedBy: 'SmolLM3Model, SmolLM3ForCausalLM or SmolLM3ForSequenceClassification',
  ignoredSettings: ['max_window_layers', 'pretraining_tp'],
  defaults: {
    vocabSize: 128_256,
    hiddenSize: 2048,
    intermediateSize: 11_008,
    numHiddenLayers: 36,
    numAttentionHeads: 16,
    numKeyValueHeads: 4,
    maxPositionEmbeddings: 32_768,
    tieWordEmbeddings: true,
    padTokenId: 128_004,
  },
  own: (config, settings) => ({ ...llamaBiases(config), layers: layersOf(config, settings) }),
});

function layersOf(config: ConfigFile, settings: DecoderSettings): RotaryLayer[] {
  const rope = ropeSettings(config, settings, { theta: 2_000_000 });
  const rotates = rotaryLayers(config, settings);
  const window = orNull(positiveInteger, config, 'sliding_window', null);
  const slides = boolean(config, 'use_sliding_window', false) && window !== null;
  const types = layerTypes(config, settings, (layer) =>
    slides && rotates[layer] === 0 ? 'sliding_attention' : 'full_attention',
  );
  return typedLayers(config, settings, {
    types,
    window,
    rope: (_, layer) => (rotates[layer] === 1 ? rope : undefined),
  });
}

/** Returns 1 for each layer with RoPE, else 0: `no_rope_layers` (despite its name), or 0 for every n-th layer. */
function rotaryLayers(config: ConfigFile, { numHiddenLayers }: DecoderSettings): readonly number[] {
  const interval = positiveInteger(config, 'no_rope_layer_interval', 4);
  if ((setting(config, 'no_rope_layers') ?? null) === null) {
    return Array.from({ length: numHiddenLayers }, (_, layer) => ((layer + 1) % interval === 0 ? 0 : 1));
  }
  const isValue = (value: unknown): value is number => value === 0 || value === 1;
  return listOf(config, 'no_rope_layers', numHiddenLayers, { isValue, expected: 'times 0 or 1' });
}
