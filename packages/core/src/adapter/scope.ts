import type { Tensor } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { ShapeError } from '../errors.js';
import type { AdapterLayer, AdapterLayers, ForwardContext, StepContext } from '../contracts/layer.js';
import type { Model, Scope } from '../contracts/model.js';
import * as nn from '../nn/index.js';
import type { QuantizedParts } from '../quantized.js';
import { tensorAt, type Tensors } from '../tensors.js';
import { valuesOf } from './peft-model.js';

/** Every tensor that a forward pass reads. */
export interface ForwardTensors {
  /** The batch's inputs, and the rows gathered on the host, by the path of their embedding. */
  readonly inputs: Tensors;
  /** Frozen weights by name. */
  readonly frozen: Tensors;
  /** The adapter's tensors by `<path>.<name>`. */
  readonly adapter: Tensors;
}

/** The part of a model that a scope needs: its tied modules. */
type Tying = Pick<Model, 'tied'>;

/**
 * Returns the name of a part of a quantized weight among the frozen tensors. Its bytes have the weight's own name.
 */
export function partName(name: string, part: keyof QuantizedParts): string {
  return part === 'values' ? name : `${name}_${part}`;
}

/** Returns the names of all parts that a weight may have. */
export function partNames(name: string): string[] {
  return PARTS.map((part) => partName(name, part));
}

/** Returns the parts of a frozen weight; undefined where it is held as floats. */
function quantizedWeight(frozen: Tensors, name: string): nn.QuantizedWeight | undefined {
  const [values, scale, zero, step] = partNames(name).map((part) => frozen[part]);
  return values && scale && { values, scale, ...(zero && step && { zero, step }) };
}

const PARTS = ['values', 'scale', 'zero', 'step'] as const;

/** Returns a frozen weight as floats, expanded where it is held in few bits. */
export function floatWeight(frozen: Tensors, name: string): Tensor {
  const held = quantizedWeight(frozen, name);
  return held ? nn.dequantized(held) : tensorAt(frozen, name);
}

/** A module's own operation, with some of its tensors replaced. */
type Operation = ForwardContext['run'];

/** Returns the model's outputs with an adapter, e.g. logits `[batch, classes]`. */
export function forward(model: Model, layers: AdapterLayers, tensors: ForwardTensors, ctx: StepContext): Tensor {
  return model.forward(peftScope(model, layers, tensors, ctx), tensors.inputs);
}

/** Returns a scope in which the layers act at their sites and everything else is frozen. */
export function peftScope(model: Tying, layers: AdapterLayers, tensors: ForwardTensors, ctx: StepContext): Scope {
  const { inputs, frozen, adapter } = tensors;
  const tensorOf = (name: string): Tensor => {
    const tensor = frozen[name] ?? adapter[name]; // a tied head's table may be trained in full
    if (!tensor) throw new ShapeError(`the forward pass reads '${name}', which the model does not have`, name);
    return tensor;
  };
  const weight = (name: string): Tensor => (name in frozen ? floatWeight(frozen, name) : tensorOf(name));
  const tableOf = (path: string): string | undefined => tiedTable(model, frozen, path);
  const multiply = (path: string, x: Tensor, bias: Tensor | undefined): Tensor => {
    const table = tableOf(path);
    const name = `${table ?? path}.weight`;
    const held = quantizedWeight(frozen, name);
    if (held) return nn.quantizedLinear(x, held, bias);
    if (table !== undefined) return nn.fromRows(tf.matMul(nn.toRows(x), weight(name), false, true), x.shape);
    return (name in frozen ? nn.frozenLinear : nn.linear)(x, tensorOf(name), bias);
  };
  const bias = (path: string): Tensor | undefined => frozen[`${path}.bias`];
  const adapted = (layer: AdapterLayer, x: Tensor, run: Operation, before?: () => Tensor): Tensor => {
    const { path } = layer.site;
    const table = tableOf(path);
    let own: Tensor | undefined; // cached, because a layer may read the module's output twice
    const runOnce: Operation = (instead) => (Object.keys(instead).length > 0 ? run(instead) : (own ??= run({})));
    return layer.forward(x, valuesOf(layer, adapter), {
      base: before ?? (() => runOnce({})),
      run: runOnce,
      weight: () => (table === undefined ? weight(`${path}.weight`) : tf.transpose(weight(`${table}.weight`))),
      bias: () => bias(path),
      ctx,
    });
  };
  return {
    weight,
    linear(path, x) {
      const ofTable = onHead(layers[tableOf(path) ?? '']);
      const layer = layers[path] ?? ofTable;
      if (!layer) return multiply(path, x, bias(path)); // [.., in] -> [.., out]
      const rows = nn.toRows(x); // [.., in] -> [rows, in]
      const run: Operation = (instead) => {
        const input = instead.x ?? rows;
        if (instead.weight) return nn.linear(input, instead.weight, instead.bias ?? bias(path));
        if (instead.bias) return tf.add(multiply(path, input, undefined), instead.bias);
        return multiply(path, input, bias(path));
      };
      // A tied head's own layer builds on what the table's layer makes of the head.
      const before = ofTable && layer !== ofTable ? () => adapted(ofTable, rows, run) : undefined;
      return nn.fromRows(adapted(layer, rows, run, before), x.shape);
    },
    embedding(path, ids) {
      const layer = layers[path];
      const gathered = inputs[path];
      const name = `${path}.weight`;
      const run: Operation = (instead) =>
        (instead.weight ? undefined : gathered) ??
        rowsOf(instead.weight ?? quantizedWeight(frozen, name) ?? tensorOf(name), instead.x ?? ids);
      return layer ? adapted(layer, ids, run) : run({});
    },
    layerNorm(path, x, epsilon) {
      const layer = layers[path];
      const run: Operation = (instead) =>
        (instead.weight || instead.bias ? nn.layerNorm : nn.frozenLayerNorm)(
          instead.x ?? x,
          instead.weight ?? weight(`${path}.weight`),
          instead.bias ?? bias(path) ?? tf.zeros([x.shape.at(-1) as number]),
          epsilon,
        );
      return layer ? adapted(layer, x, run) : run({});
    },
    rmsNorm(path, x, epsilon, offset = 0) {
      const layer = layers[path];
      const gain = (own: Tensor): Tensor => (offset === 0 ? own : tf.add(own, offset));
      const run: Operation = (instead) =>
        instead.weight
          ? nn.rmsNorm(instead.x ?? x, gain(instead.weight), epsilon)
          : nn.frozenRmsNorm(instead.x ?? x, gain(weight(`${path}.weight`)), epsilon);
      return layer ? adapted(layer, x, run) : run({});
    },
    dropout: (name, x) => dropped(ctx, name, x),
  };
}

/** Applies the network's own dropout to x `[.., features]` at a place; returns x itself where it is off. */
function dropped(ctx: StepContext, name: string, x: Tensor): Tensor {
  const rate = ctx.networkDropout[name] ?? 0;
  return rate === 0 ? x : nn.fromRows(ctx.dropout(name, nn.toRows(x), rate), x.shape);
}

/** Gathers rows of a table: ids `[..]` -> `[.., dim]`. */
function rowsOf(table: Tensor | nn.QuantizedWeight, ids: Tensor): Tensor {
  return 'values' in table ? nn.quantizedEmbedding(table, ids) : nn.embedding(table, ids);
}

/**
 * Returns the path of the table that a module uses as its weight; undefined where it has its own, as merging may give it.
 */
export function tiedTable({ tied = [] }: Tying, frozen: object, path: string): string | undefined {
  return `${path}.weight` in frozen ? undefined : tied.find(({ site }) => site.path === path)?.table;
}

/** Returns a table's layer as it acts on the tied head; undefined where it does not. */
function onHead(layer: AdapterLayer | undefined): AdapterLayer | undefined {
  return layer?.tiedForward && { ...layer, forward: layer.tiedForward };
}
