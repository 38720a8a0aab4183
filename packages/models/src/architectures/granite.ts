import type { Task } from '@peftjs/core/method';
import type { Architecture } from '../architecture.js';
import { rotaryDecoder } from '../rotary-decoder.js';
import { ropeSettings } from '../rope.js';
import { activation, boolean, positiveNumber, type ConfigFile, type ModelType } from '../transformers/config.js';
import { attentionBiases, decoderSettings, evenLayers, PRE_NORMS } from './decoder-settings.js';

/**
 * Granite as saved by transformers (IBM Granite Team, 2024): Llama's network with scale factors for word embeddings,
 * scores, residuals and logits. Transformers has no classifiers for it.
 */
export const graniteType: ModelType = {
  name: 'granite',
  savedBy: 'GraniteModel or GraniteForCausalLM',
  prefix: 'model.',
  architecture,
};

/** Missing settings have the defaults of transformers. */
function architecture(config: ConfigFile, task: Task): Architecture {
  const settings = decoderSettings(config, {
    vocabSize: 32_000,
    hiddenSize: 4096,
    intermediateSize: 11_008,
    numHiddenLayers: 32,
    numAttentionHeads: 32,
    maxPositionEmbeddings: 2048,
  });
  return rotaryDecoder(
    {
      ...settings,
      name: 'granite',
      norms: PRE_NORMS,
      ...attentionBiases(config),
      mlpBias: boolean(config, 'mlp_bias', false),
      hiddenAct: activation(config, 'hidden_act', 'silu'),
      embeddingScale: positiveNumber(config, 'embedding_multiplier', 1),
      attentionScale: positiveNumber(config, 'attention_multiplier', 1),
      residualScale: positiveNumber(config, 'residual_multiplier', 1),
      logitDivisor: positiveNumber(config, 'logits_scaling', 1),
      classifies: { texts: false, tokens: false },
      layers: evenLayers(config, settings, { rope: ropeSettings(config, settings) }),
    },
    task,
  );
}
