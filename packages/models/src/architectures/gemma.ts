import type { Task } from '@peftjs/core/method';
import type { Architecture } from '../architecture.js';
import { rotaryDecoder, type RotaryDecoderConfig } from '../rotary-decoder.js';
import { ropeSettings } from '../rope.js';
import {
  activation,
  positiveNumber,
  positiveNumberOrNull,
  assertSetting,
  setting,
  type ConfigFile,
  type ModelType,
} from '../transformers/config.js';
import { attentionBiases, decoderSettings, evenLayers, PRE_NORMS, type DecoderSettings } from './decoder-settings.js';

/**
 * Gemma as saved by transformers (Gemma Team, 2024): Llama's network with word embeddings times sqrt(H), norms that
 * scale by 1 + gain, GELU instead of SiLU, and tied embeddings.
 */
export const gemmaType: ModelType = {
  name: 'gemma',
  savedBy: 'GemmaModel, GemmaForCausalLM or GemmaForSequenceClassification',
  prefix: 'model.',
  ignoredSettings: ['hidden_activation'], // transformers reads `hidden_act`
  architecture,
};

/** Missing settings default to those of Gemma 7B, as in transformers. */
function architecture(config: ConfigFile, task: Task): Architecture {
  const settings = decoderSettings(config, {
    vocabSize: 256_000,
    hiddenSize: 3072,
    intermediateSize: 24_576,
    numHiddenLayers: 28,
    numAttentionHeads: 16,
    numKeyValueHeads: 16,
    headDim: 256,
    maxPositionEmbeddings: 8192,
    tieWordEmbeddings: true,
    padTokenId: 0,
  });
  const isLegacy = setting(config, 'hidden_act') === 'gelu'; // the first files say so, but mean the tanh approximation
  return rotaryDecoder(
    {
      ...gemmaSettings(config, settings),
      name: 'gemma',
      norms: PRE_NORMS,
      hiddenAct: isLegacy ? 'gelu_pytorch_tanh' : activation(config, 'hidden_act', 'gelu_pytorch_tanh'),
      layers: evenLayers(config, settings, { rope: ropeSettings(config, settings) }),
    },
    task,
  );
}

/** Returns the settings of every Gemma. @throws CheckpointError for bidirectional attention. */
export function gemmaSettings(
  config: ConfigFile,
  settings: DecoderSettings,
): DecoderSettings & Pick<RotaryDecoderConfig, 'normOffset' | 'embeddingScale' | 'qkvBias' | 'outputBias'> {
  assertSetting(config, 'use_bidirectional_attention', false);
  return {
    ...settings,
    ...attentionBiases(config),
    normOffset: 1,
    embeddingScale: Math.sqrt(settings.hiddenSize),
  };
}

/**
 * Returns the norms, scores and logits of Gemma 2 and 3.
 * @param softcap The soft cap of the logits if config.json has none; null for no cap.
 */
export function gemma2Settings(
  config: ConfigFile,
  softcap: number | null,
): Pick<RotaryDecoderConfig, 'norms' | 'hiddenAct' | 'attentionScale' | 'logitSoftcap'> {
  const logitSoftcap = positiveNumberOrNull(config, 'final_logit_softcapping', softcap);
  return {
    norms: {
      beforeAttention: 'input_layernorm',
      afterAttention: 'post_attention_layernorm',
      beforeFeedForward: 'pre_feedforward_layernorm',
      afterFeedForward: 'post_feedforward_layernorm',
    },
    hiddenAct: activation(config, 'hidden_activation', 'gelu_pytorch_tanh'),
    attentionScale: 1 / Math.sqrt(positiveNumber(config, 'query_pre_attn_scalar', 256)),
    ...(logitSoftcap !== null && { logitSoftcap }),
  };
}
