import type { Task } from '@peftjs/core/method';
import type { Architecture } from '../architecture.js';
import { rotaryDecoder, type RotaryDecoderConfig } from '../rotary-decoder.js';
import { ropeSettings } from '../rope.js';
import {
  activation,
  positiveNumber,
  positiveNumberOrNull,
  refuseUnless,
  setting,
  type ConfigFile,
  type ModelType,
} from '../transformers/config.js';
import { attentionBiases, decoderSettings, evenLayers, PRE_NORMS, type DecoderSettings } from './decoder-settings.js';

/**
 * Gemma as transformers saves it (Gemma Team, 2024): Llama's network with words times sqrt(H), norms by 1 + gain, GELU in the place of
 * SiLU, and a tied table.
 */
export const gemmaType: ModelType = {
  name: 'gemma',
  savedBy: 'GemmaModel, GemmaForCausalLM or GemmaForSequenceClassification',
  prefix: 'model.',
  inert: ['hidden_activation'], // transformers reads `hidden_act`
  architecture,
};

/** What a config.json leaves out is as in Gemma 7B, as transformers has it. */
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
  });
  const isLegacy = setting(config, 'hidden_act') === 'gelu'; // so say the first files, and mean the approximation
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

/** What every Gemma has. @throws CheckpointError for one whose tokens look ahead. */
export function gemmaSettings(
  config: ConfigFile,
  settings: DecoderSettings,
): DecoderSettings & Pick<RotaryDecoderConfig, 'normOffset' | 'embeddingScale' | 'qkvBias' | 'outputBias'> {
  refuseUnless(config, 'use_bidirectional_attention', false);
  return {
    ...settings,
    ...attentionBiases(config),
    normOffset: 1,
    embeddingScale: Math.sqrt(settings.hiddenSize),
  };
}

/** The norms, scores and logits of Gemma 2 and 3. @param softcap of logits, where config.json leaves it out; null for none */
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
