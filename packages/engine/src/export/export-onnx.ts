import { actingParts, assertFullPrecision, forward, frozenWeights, stepContext } from '@peftjs/core';
import type { HostTensors, Model, PeftModel, PureFunction, Tensors } from '@peftjs/core';
import { exportFunction } from './export-function.js';

/** What a text model may read, [batch, tokens], and what transformers calls it. */
export const TEXT_INPUTS = {
  inputIds: { name: 'input_ids', dtype: 'int32' },
  attentionMask: { name: 'attention_mask', dtype: 'float32' },
  tokenTypeIds: { name: 'token_type_ids', dtype: 'int32' },
} as const;

/** An input of a text model. */
export type TextInput = keyof typeof TEXT_INPUTS;

/** How a model is exported. */
export interface OnnxOptions {
  /** Most tokens that the graph is to take: what it knows of positions is as long. */
  readonly maxTokens: number;
  /** What the graph takes, as far as the model reads it. Default: ids, mask and token types. */
  readonly inputs?: readonly TextInput[];
}

/**
 * A text model with its adapters as an ONNX file: inputs `input_ids`, `attention_mask` and `token_type_ids` int64 [batch, tokens] of
 * any size, as far as the model reads them, output `logits` float32. It has operators of the ONNX standard alone (opset 20) and all
 * weights in float32. What is merged is in the weights; other adapters come as nodes of their own.
 *
 * @param source a model with adapters, of which the active ones act, or a plain one, e.g. a merged one.
 * @throws UnsupportedError when weights are held in 8 bits: see `fullPrecision`.
 * @throws EngineError when a step of the model cannot be written for any size, naming it, or the file would exceed 2 GB.
 * @example
 * const bytes = await exportOnnx(mergeAndUnload(peft), { maxTokens: model.maxTokens });
 */
export async function exportOnnx(
  source: PeftModel | Model,
  { maxTokens, inputs = Object.keys(TEXT_INPUTS) as TextInput[] }: OnnxOptions,
): Promise<Uint8Array> {
  assertFullPrecision('adapters' in source ? source.model : source);
  const taken = Object.fromEntries(inputs.map((input) => [input, TEXT_INPUTS[input]]));
  return exportFunction({ ...inference(source), inputs: taken, maxTokens });
}

/** The model's outputs as a pure function of its inputs and all that it holds. */
function inference(source: PeftModel | Model): { fn: PureFunction; weights: HostTensors } {
  const { model, layers, values } = actingParts(source);
  const whole = { ...model, lookups: [] }; // the tables are part of the graph
  const frozen = frozenWeights(whole, layers);
  const adapter = Object.fromEntries(Object.entries(values).map(([name, value]) => [`${ADAPTER}${name}`, value]));
  const context = stepContext({}, Object.keys(layers).length, false);
  const fn: PureFunction = (all) => ({
    logits: forward(whole, layers, { inputs: all, frozen: all, adapter: ofAdapter(all) }, context),
  });
  return { fn, weights: { ...frozen, ...adapter } };
}

/** Before the names of an adapter's tensors: a module trained whole has one of the same name as the weight that it replaces. */
const ADAPTER = 'adapter:';

function ofAdapter(all: Tensors): Tensors {
  const own = Object.entries(all).filter(([name]) => name.startsWith(ADAPTER));
  return Object.fromEntries(own.map(([name, tensor]) => [name.slice(ADAPTER.length), tensor]));
}
