import { diskStorage, type Model, type Storage } from '@peftjs/core';
import { ConfigError, UnsupportedError, type HostTensor } from '@peftjs/core/method';
import { saveOnnx } from '@peftjs/models';
import { aModel, assertArgument, assertFullPrecision, assertKnownOptions, aStorage, aText } from '@peftjs/core/model';
import { openModel, type OpenedModel } from '../format/files.js';
import { fieldsIn, Message, written, type Fields } from '../format/message.js';
import { decoded, type Constant } from '../format/tensor.js';
import type { GraphSource } from '../checkpoint.js';
import { graphFormat } from '../graph-formats.js';
import type { OnnxModel } from '../from-onnx.js';
import { transposed } from '@peftjs/core/linalg';
import { modulesIn, weightsOf } from '../network.js';
import { headNodes, type Added } from './head.js';
import { encoded, portProto, tensorProto } from './protos.js';

/** Options of `saveOnnxGraph`. */
export interface SaveGraphOptions {
  /** The storage of the new file or folder. Default: the disk. */
  readonly storage?: Storage;
}

/** What was written. */
export interface SavedGraph {
  /** The names of the initializers that have new numbers. */
  readonly changed: readonly string[];
  /** The largest difference between a merged weight and the number in the file: 0 unless the file has float16. */
  readonly rounding: number;
}

/**
 * Writes the graph that a model was read from, with the weights that the model has now, e.g. after `mergeAndUnload`, and
 * its new head. Every other node and initializer keeps its bytes. A graph with a new head has the one output 'logits'.
 * Large tensors in files beside the source are written beside the new file, under the same names.
 *
 * @param model A model of `fromOnnx`, without adapters.
 * @param path The path of the new file, which ends in `.onnx`, or of a folder for transformers.js: then config.json, the
 * tokenizer and a model card are written too, and the graph is in `onnx`.
 * @throws ConfigError for another model.
 * @throws UnsupportedError when weights are held in few bits, when the file has a changed weight in bfloat16, when two
 * modules that share a tensor were changed differently, and for a head whose pooling has no nodes.
 * @throws CheckpointError when the source has changed or writing fails.
 * @example
 * const { rounding } = await saveOnnxGraph(mergeAndUnload(peft), 'tuned');
 */
export async function saveOnnxGraph(model: Model, path: string, options: SaveGraphOptions = {}): Promise<SavedGraph> {
  assertArgument('path', path, aText);
  assertKnownOptions('saveOnnxGraph', options, ['storage']);
  if (options.storage) assertArgument('storage', options.storage, aStorage);
  const { files, changed, rounding } = await mergedGraph(model);
  const { storage = diskStorage() } = options;
  if (!path.endsWith('.onnx')) {
    const { graph, maxTokens } = model as OnnxModel;
    const source = { source: graph.folder.path || '.', sourceStorage: graph.folder.storage };
    await saveOnnx(model, files, path, { storage, ...source, maxTokens, formats: [graphFormat(graph.file)] });
    return { changed, rounding };
  }
  const folder = path.slice(0, path.lastIndexOf('/') + 1);
  for (const [name, bytes] of files) await storage.write(name.endsWith('.onnx') ? path : `${folder}${name}`, bytes);
  return { changed, rounding };
}

/** A graph with merged weights. */
export interface MergedGraph extends SavedGraph {
  /**
   * The files that hold large tensors, by the names that the graph has for them, then the graph: 'model.onnx', unless
   * its own name is one of transformers.js, e.g. 'model_fp16.onnx'.
   */
  readonly files: ReadonlyMap<string, Uint8Array>;
}

/**
 * Returns the graph that `saveOnnxGraph` writes, and the files beside it.
 * @throws ConfigError and UnsupportedError like `saveOnnxGraph`; CheckpointError when the source has changed.
 * @example
 * const { files } = await mergedGraph(merged);
 * console.log(await checkOnnx(files, merged, { maxTokens: 128 })); // of @peftjs/engine
 */
export async function mergedGraph(model: Model): Promise<MergedGraph> {
  assertArgument('model', model, aModel);
  const use = sourceOf(model);
  assertFullPrecision(model);
  const source = await openModel(use.folder, use.file);
  const changes = changesOf(model, source);
  const head = use.newHead ? headNodes(use, model) : undefined;
  const graph = rewritten(source, changes, head ?? relabelled(use, source, model.outputs));
  const [own = 'model.onnx'] = /model(?:_\w+)?\.onnx$/.exec(use.file) ?? [];
  return {
    files: new Map([...patched(source.beside, changes), [own, graph]]),
    changed: [...changes.keys()],
    rounding: Math.max(0, ...Array.from(changes.values(), ({ rounding }) => rounding)),
  };
}

/** @throws ConfigError for a model of no graph. */
function sourceOf({ name, graph }: Model & Partial<Pick<OnnxModel, 'graph'>>): GraphSource {
  if (graph) return graph;
  throw new ConfigError(`model '${name}' is not from an ONNX graph; expected one of fromOnnx`, 'model');
}

/** New numbers of an initializer. */
interface Change {
  readonly constant: Constant;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
  /** The largest difference between a number and what is written. */
  readonly rounding: number;
}

/** Finds the initializers whose numbers differ from the model's, by name. */
function changesOf(model: Model, { model: file }: OpenedModel): Map<string, Change> {
  const changes = new Map<string, Change>();
  const initial = new Set(Array.from(file.constants.values()).filter(({ name }) => file.initializers.has(name)));
  for (const module of modulesIn(file)) {
    const before = weightsOf([module]);
    for (const [part, constant] of [
      ['weight', module.weight],
      ['bias', module.bias],
    ] as const) {
      const key = `${module.site.path}.${part}`;
      const [old, now] = [before[key], model.weights[key]];
      if (!constant || !old || !now) continue;
      const isChanged =
        now.data.length !== old.data.length || now.data.some((value, at) => !Object.is(value, old.data[at]));
      const known = changes.get(constant.name);
      if (!isChanged && known === undefined) continue;
      if (!initial.has(constant))
        throw new UnsupportedError(`the weight of '${key}' is no initializer of the graph`, key);
      const change = changeOf(constant, part === 'weight' && module.isTransposed ? transposed(now) : now);
      if (known && !isEqual(known.bytes, change.bytes)) {
        throw new UnsupportedError(`modules that share the tensor '${constant.name}' were changed differently`, key);
      }
      changes.set(constant.name, change);
    }
  }
  return changes;
}

function changeOf(constant: Constant, { data, shape }: HostTensor): Change {
  const numbers = data as Float32Array;
  const bytes = encoded(constant.type, numbers);
  const stored = decoded(constant.type, bytes);
  const rounding = numbers.reduce((most, value, at) => Math.max(most, Math.abs(value - (stored[at] as number))), 0);
  return { constant, shape, bytes, rounding };
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}

/** Whether new numbers stay in a file beside the model: there they take the place of the old ones. */
function staysBeside({ constant: { place }, bytes }: Change): boolean {
  return place?.file !== undefined && place.bytes.byteLength === bytes.byteLength;
}

/** Returns the files beside a model with new numbers. */
function patched(beside: OpenedModel['beside'], changes: ReadonlyMap<string, Change>): Map<string, Uint8Array> {
  const files = new Map(Array.from(beside, ([name, bytes]) => [name, bytes.slice()] as const));
  for (const change of changes.values()) {
    const { place } = change.constant;
    if (!staysBeside(change) || place?.file === undefined) continue;
    const old = beside.get(place.file) as Uint8Array;
    files.get(place.file)?.set(change.bytes, place.bytes.byteOffset - old.byteOffset);
  }
  return files;
}

/** The output of a head with another number of labels than the graph had. */
function relabelled(
  { output, newHead }: GraphSource,
  { model }: OpenedModel,
  labels: number | undefined,
): Added | undefined {
  const port = model.outputs.find(({ name }) => name === output);
  const width = port?.shape?.at(-1);
  if (newHead || labels === undefined || width === undefined || width === labels || !port?.shape) return undefined;
  const shape = [...port.shape.slice(0, -1).map((dim, axis) => dim ?? AXES[axis] ?? ''), labels];
  return { nodes: [], initializers: [], outputs: [portProto(output, shape)] };
}

const AXES = ['batch', 'tokens'];

/** Fields of a ModelProto and a GraphProto. */
const [GRAPH, NODE, INITIALIZER, OUTPUT] = [7, 1, 5, 12];

/** Returns a model file with new numbers, and with nodes that are added: their outputs replace those of the graph. */
function rewritten({ bytes }: OpenedModel, changes: ReadonlyMap<string, Change>, added?: Added): Uint8Array {
  return written(
    fieldsIn(bytes).map(({ field, value, whole }) =>
      field === GRAPH && typeof value !== 'number' ? [GRAPH, graphOf(value, changes, added)] : whole,
    ),
  );
}

function graphOf(bytes: Uint8Array, changes: ReadonlyMap<string, Change>, added?: Added): Uint8Array {
  const kept = fieldsIn(bytes).flatMap(({ field, value, whole }): (Fields[number] | Uint8Array)[] => {
    if (field === OUTPUT && added) return [];
    const change =
      field === INITIALIZER && typeof value !== 'number' ? changes.get(new Message(value).text(8)) : undefined;
    if (!change || staysBeside(change)) return [whole];
    const { constant, shape, bytes } = change;
    return [[INITIALIZER, tensorProto(constant.name, constant.type, shape, bytes)]];
  });
  const { nodes = [], initializers = [], outputs = [] } = added ?? {};
  const numbered = (field: number, all: readonly Uint8Array[]): Fields => all.map((one) => [field, one]);
  return written([
    ...kept,
    ...numbered(NODE, nodes),
    ...numbered(INITIALIZER, initializers),
    ...numbered(OUTPUT, outputs),
  ]);
}
