import type { Task } from '@peftjs/core/method';
import type { Architecture } from '../architecture.js';
import { rotaryDecoder } from '../rotary-decoder.js';
import { ropeSettings } from '../rope.js';
import { activation, type ConfigFile, type ModelType } from '../transformers/config.js';
import { attentionBiases, decoderSettings, evenLayers } from './decoder-settings.js';

/**
 * OLMo 2 as saved by transformers (OLMo Team, 2025): Llama's network with norms after attention and the feed-forward
 * module instead of before, and one norm over all queries and one over all keys.
 */
export const olmo2Type: ModelType = {
  name: 'olmo2',
  savedBy: 'Olmo2Model, Olmo2ForCausalLM or Olmo2ForSequenceClassification',
  prefix: 'model.',
  architecture,
};

/** Missing settings default to those of OLMo 2 7B, as in transformers. */
function architecture(config: ConfigFile, task: Task): Architecture {
  const settings = decoderSettings(config, {
    vocabSize: 50_304,
    hiddenSize: 4096,
    intermediateSize: 11_008,
    numHiddenLayers: 32,
    numAttentionHeads: 32,
    maxPositionEmbeddings: 2048,
    rmsNormEps: 1e-5,
    padTokenId: 1,
  });
  return rotaryDecoder(
    {
      ...settings,
      name: 'olmo2',
      norms: { afterAttention: 'post_attention_layernorm', afterFeedForward: 'post_feedforward_layernorm' },
      queryKeyNorm: 'all',
      ...attentionBiases(config),
      hiddenAct: activation(config, 'hidden_act', 'silu'),
      classifies: { texts: true, tokens: false },
      layers: evenLayers(config, settings, { rope: ropeSettings(config, settings) }),
    },
    task,
  );
}
