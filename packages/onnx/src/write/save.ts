import { diskStorage, type Model, type Storage } from '@peftjs/core';
import { ConfigError, UnsupportedError, type HostTensor } from '@peftjs/core/method';
import { saveOnnx } from '@peftjs/models';
import {
  aModel,
  assertArgument,
  assertFullPrecision,
  assertKnownOptions,
  aStorage,
  aText,
  writeFolders,
} from '@peftjs/core/model';
import { openModel, type OpenedModel } from '../format/files.js';
import { fieldsIn, Message, textIn, written, type Field, type Part } from '../format/message.js';
import { decoded, type Constant } from '../format/tensor.js';
import type { GraphSource } from '../checkpoint.js';
import { graphFormat } from '../graph-formats.js';
import type { OnnxModel } from '../from-onnx.js';
import { transposed } from '@peftjs/core/linalg';
import { weightName } from '../forward.js';
import { modulesIn, weightsOf } from '../network.js';
import { headNodes, type Added } from './head.js';
import { encoded, INITIALIZER, INPUT, NODE, OUTPUT, portProto, tensorProto } from './protos.js';

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
 * its new head. Every other node and initializer keeps its bytes. A graph with a new head has the one output 'logits',
 * without what only other outputs needed. Large tensors in files beside the source are written beside the new file, in
 * files named after it, e.g. `tuned.onnx_data`.
 *
 * @param model A model of `fromOnnx`, without adapters.
 * @param path The path of the new file, which ends in `.onnx`, or of a folder for transformers.js: then config.json, the
 * tokenizer and a model card are written too, and the graph is in `onnx`.
 * @throws ConfigError for another model.
 * @throws UnsupportedError when weights are held in few bits, when the file has a changed weight in bfloat16, when the
 * readers of a tensor were changed differently, and for a head whose pooling has no nodes.
 * @throws CheckpointError when the source has changed or writing fails.
 * @example
 * const { rounding } = await saveOnnxGraph(mergeAndUnload(peft), 'tuned');
 */
export async function saveOnnxGraph(model: Model, path: string, options: SaveGraphOptions = {}): Promise<SavedGraph> {
  assertArgument('path', path, aText);
  assertKnownOptions('saveOnnxGraph', options, ['storage']);
  if (options.storage) assertArgument('storage', options.storage, aStorage);
  const to = options.storage ? path : path.replaceAll('\\', '/');
  const [, folder = '', name] = /^(.*[\\/])?([^\\/]*\.onnx)$/.exec(to) ?? [];
  const { files, changed, rounding } = await graphNamed(name, model);
  const { storage = diskStorage() } = options;
  if (name === undefined) {
    const { graph, maxTokens } = model as OnnxModel;
    const source = { source: graph.folder.path || '.', sourceStorage: graph.folder.storage };
    await saveOnnx(model, files, path, { storage, ...source, maxTokens, formats: [graphFormat(graph.file)] });
  } else {
    const all = Array.from(files, ([file, bytes]) => ({ path: `${folder}${file}`, bytes }));
    // the disk replaces no hidden files of a folder, and knows no other separator than '/'
    const isMoved = !folder.includes('\\') && !name.startsWith('.');
    if (!isMoved) for (const one of all) await storage.write(one.path, one.bytes);
    else await writeFolders(storage, [{ config: all.at(-1) as (typeof all)[0], others: all.slice(0, -1) }]);
  }
  return { changed, rounding };
}

/** A graph with merged weights. */
export interface MergedGraph extends SavedGraph {
  /**
   * The files that hold large tensors, by the names that the graph has for them, e.g. 'model.onnx_data', then the graph:
   * 'model.onnx', or 'model_fp16.onnx' if that is its own name.
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
export function mergedGraph(model: Model): Promise<MergedGraph> {
  return graphNamed(undefined, model);
}

async function graphNamed(wanted: string | undefined, model: Model): Promise<MergedGraph> {
  assertArgument('model', model, aModel);
  const use = sourceOf(model);
  assertFullPrecision(model);
  const source = await openModel(use.folder, use.file);
  const changes = changesOf(model, source);
  const added = use.newHead ? headNodes(use, model, source.model) : relabelled(use, source, model.outputs);
  const name = wanted ?? (/(?:^|\/)model_fp16\.onnx$/.test(use.file) ? 'model_fp16.onnx' : 'model.onnx');
  const beside = patched(source.beside, changes);
  const names = new Map(
    Array.from(beside.keys(), (file, index) => [file, `${name}_data${index === 0 ? '' : `_${index}`}`]),
  );
  const graph = rewritten(source, changes, names, added);
  return {
    files: new Map([
      ...Array.from(beside, ([file, bytes]) => [names.get(file) ?? file, bytes] as const),
      [name, graph],
    ]),
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

/** Changes by the name of the initializer. */
type Changes = ReadonlyMap<string, Change>;

/** New names by old ones. */
type Names = ReadonlyMap<string, string>;

/** Finds the initializers whose numbers differ from the model's, by name. */
function changesOf(model: Model, { model: file }: OpenedModel): Changes {
  const changes = new Map<string, Change>();
  const initial = new Set(Array.from(file.constants.values()).filter(({ name }) => file.initializers.has(name)));
  const parts = modulesIn(file).flatMap((module) => {
    const before = weightsOf([module]);
    return (['weight', 'bias'] as const).flatMap((part) => {
      const key = `${module.site.path}.${part}`;
      const [constant, old, now] = [module[part], before[key], model.weights[key]];
      if (!constant || !old || !now) return [];
      const isChanged =
        now.data.length !== old.data.length || now.data.some((value, at) => !Object.is(value, old.data[at]));
      return [{ key, constant, now, isChanged, isTransposed: part === 'weight' && module.isTransposed }];
    });
  });
  const changed = new Set(parts.flatMap(({ constant, isChanged }) => (isChanged ? [constant] : [])));
  for (const { key, constant, now, isTransposed } of parts) {
    if (!changed.has(constant)) continue;
    if (!initial.has(constant))
      throw new UnsupportedError(`the weight of '${key}' is no initializer of the graph`, key);
    const change = changeOf(constant, isTransposed ? transposed(now) : now);
    const known = changes.get(constant.name);
    const isReadByOthers = weightName(constant.name) in model.weights;
    if (isReadByOthers || (known && !isEqual(known.bytes, change.bytes))) throw sharedDifferently(constant.name, key);
    changes.set(constant.name, change);
  }
  assertOwnBytes(changes, initial);
  return changes;
}

/** @throws UnsupportedError when another tensor in the bytes of a changed one would change with it. */
function assertOwnBytes(changes: Changes, initial: ReadonlySet<Constant>): void {
  for (const change of changes.values()) {
    const { name, place } = change.constant;
    if (!place || !staysBeside(change)) continue;
    const [start, end] = [place.bytes.byteOffset, place.bytes.byteOffset + place.bytes.byteLength];
    const isIn = ({ place: at }: Constant): boolean =>
      at !== undefined &&
      at.file === place.file &&
      at.bytes.byteOffset < end &&
      start < at.bytes.byteOffset + at.bytes.byteLength;
    for (const other of initial) {
      if (!isIn(other) || isEqual(changes.get(other.name)?.bytes ?? new Uint8Array(), change.bytes)) continue;
      throw sharedDifferently(other.name, name);
    }
  }
}

function sharedDifferently(tensor: string, key: string): UnsupportedError {
  return new UnsupportedError(
    `readers of the tensor '${tensor}' were changed differently: export the model with a tensor for each, or adapt none of them`,
    key,
  );
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
function patched(beside: OpenedModel['beside'], changes: Changes): Map<string, Uint8Array> {
  const files = new Map(Array.from(beside, ([name, bytes]) => [name, new Uint8Array(bytes)] as const));
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
  return { fields: [[OUTPUT, portProto(output, shape, port.type)]] };
}

const AXES = ['batch', 'tokens'];

/** The graph in a ModelProto, and what a GraphProto notes of values within. */
const [GRAPH, VALUE_INFO] = [7, 13];

/**
 * Returns a model file with new numbers, other names of the files beside it, and what is added: its outputs replace
 * those of the graph. What the file notes of the shapes of values may be wrong then, and is left out.
 */
function rewritten({ bytes, model }: OpenedModel, changes: Changes, names: Names, added?: Added): Uint8Array {
  const isKept = (name: string): boolean => added?.kept?.has(name) ?? true;
  const graphField = ({ field, value, whole }: Field): Part[] => {
    if (added && (field === OUTPUT || field === VALUE_INFO)) return [];
    if (typeof value === 'number' || ![NODE, INITIALIZER, INPUT].includes(field)) return [whole];
    const proto = new Message(value);
    if (field === NODE) return proto.texts(2).some(isKept) ? [[NODE, withTexts(value, [1, 2], added?.renamed)]] : [];
    const name = proto.text(field === INPUT ? 1 : 8);
    if (model.initializers.has(name) && !isKept(name)) return [];
    const change = changes.get(name);
    if (field === INPUT) return [change ? [INPUT, portProto(name, change.shape, change.constant.type)] : whole];
    if (!change || staysBeside(change)) return [names.size === 0 ? whole : [INITIALIZER, moved(value, names)]];
    return [[INITIALIZER, tensorProto(name, change.constant.type, change.shape, change.bytes)]];
  };
  const graph = (value: Uint8Array): Uint8Array => edited(value, graphField, added?.fields);
  return edited(bytes, ({ field, value, whole }) =>
    field === GRAPH && typeof value !== 'number' ? [[GRAPH, graph(value)]] : [whole],
  );
}

/** Returns a message with other parts in place of its fields, and more of them at its end. */
function edited(
  bytes: Uint8Array,
  partsFor: (field: Field) => readonly Part[],
  more: readonly Part[] = [],
): Uint8Array {
  function* parts(): Generator<Part> {
    for (const field of fieldsIn(bytes)) yield* partsFor(field);
    yield* more;
  }
  return written(parts());
}

/** Returns a TensorProto whose external data is in a file of another name. */
function moved(tensor: Uint8Array, names: Names): Uint8Array {
  return edited(tensor, ({ field, value, whole }) =>
    field === EXTERNAL_DATA && typeof value !== 'number' && new Message(value).text(1) === 'location'
      ? [[field, withTexts(value, [2], names)]]
      : [whole],
  );
}

/** A field of a TensorProto. */
const EXTERNAL_DATA = 13;

/** Returns a message with other texts in some of its fields. */
function withTexts(bytes: Uint8Array, fields: readonly number[], texts: Names = new Map()): Uint8Array {
  return edited(bytes, ({ field, value, whole }) => {
    const text = fields.includes(field) && typeof value !== 'number' ? texts.get(textIn(value)) : undefined;
    return [text === undefined ? whole : [field, text]];
  });
}
