/** Reads the weights of transformers: safetensors with PyTorch's names and layout, in one file or in shards. */
import { openSafetensors, openSharded, SafetensorsError, type TensorPiece } from '@peftjs/safetensors';
import { CheckpointError, mapValues, warnOnce, type HostTensor, type Site } from '@peftjs/core/method';
import {
  checkShapes,
  weightShapes,
  withNewPooler,
  type Architecture,
  type DeclaredWeight,
  type Network,
} from '../architecture.js';
import { firstNames, type WeightDtype } from '@peftjs/core/model';
import { precisionOf, type Checkpoint, type Precision } from '../checkpoint.js';
import { withoutWeights, type ModelFolder, type WeightsFile } from '../folder.js';
import type { ModelType } from './config.js';
import { readWeight, type StoredWeight } from './pieces.js';

/** The file with all weights of a model without shards. */
export const WEIGHTS_FILE = 'model.safetensors';
const INDEX_FILE = 'model.safetensors.index.json';

/** The stored dtypes that are converted to float32. */
const FLOATS: readonly string[] = ['F32', 'F16', 'BF16', 'F64'];

/** What is known about a checkpoint before its weights are opened. */
interface Expected {
  readonly modelType: ModelType;
  /** Whether its head, if any, is for the task. */
  readonly holdsHead: boolean;
  readonly dtype: WeightDtype;
}

/**
 * The weights of a checkpoint and the architecture they are for, which depends on the pooler: see
 * `Architecture.pooler`.
 */
type ReadWeights = Pick<Checkpoint, 'architecture' | 'weights' | 'head' | 'carried'>;

/**
 * Reads the weights of a network by module path, with matrices as [in, out], and those weights of its head that the
 * checkpoint has.
 * @throws CheckpointError for weights that are missing, broken, not finite or of the wrong shape.
 */
export async function readWeights(
  folder: ModelFolder,
  architecture: Architecture,
  expected: Expected,
): Promise<ReadWeights> {
  const name = await weightsFile(folder);
  return inCheckpoint(folder, name, async () => {
    const file = await openWeights(folder, name);
    try {
      return await weightsIn(file, architecture, expected, { folder, name });
    } finally {
      await file.close();
    }
  });
}

/** The file of a checkpoint's weights in its folder. */
interface Place {
  readonly folder: ModelFolder;
  readonly name: string;
}

async function weightsIn(
  file: WeightsFile,
  wanted: Architecture,
  { modelType, holdsHead, dtype }: Expected,
  place: Place,
): Promise<ReadWeights> {
  const path = place.folder.pathOf(place.name);
  const { architecture, carried } = withPooler(
    file,
    await withOwnHead(file, wanted, modelType, place),
    modelType,
    path,
  );
  const headSites = holdsHead ? storedHead(file, architecture) : [];
  const network = { ...architecture, sites: [...architecture.sites, ...headSites, ...carried] };
  const stored = storedWeights(file, network, modelType, path);
  checkShapes(network, mapValues(stored, declared), path);
  assertNoUnknownWeights(file, network, stored, { modelType, path });
  const all = await readAll(file, stored, precisionOf(dtype, architecture), place);
  const of = (sites: readonly Site[]) => (name: string) => sites.some((site) => name.startsWith(`${site.path}.`));
  const [isInHead, isCarried] = [of(headSites), of(carried)];
  const some = (isWanted: (name: string) => boolean) =>
    Object.fromEntries(Object.entries(all).filter(([name]) => isWanted(name)));
  return {
    architecture,
    weights: some((name) => !isInHead(name) && !isCarried(name)),
    head: some(isInHead),
    carried: some(isCarried),
  };
}

/** Unties a head that the checkpoint has besides the table, with other values, as transformers does. */
async function withOwnHead(
  file: WeightsFile,
  architecture: Architecture,
  { prefix }: ModelType,
  { folder, name }: Place,
): Promise<Architecture> {
  const [tied] = architecture.tied ?? [];
  if (!tied) return architecture;
  const keys = new Set(file.names);
  const [head, table] = [tied.site.path, tied.table].map((module) => storedName(keys, `${module}.weight`, prefix));
  if (head === undefined || table === undefined || (await areEqual(file, head, table))) return architecture;
  const setting = folder.weights ? '' : ", despite 'tie_word_embeddings'"; // a GGUF file has none
  warnOnce(`${folder.pathOf(name)}: '${head}' differs from '${table}', so the two are not tied${setting}`);
  return { ...architecture, sites: [...architecture.sites, tied.site], tied: [] };
}

async function areEqual(file: WeightsFile, one: string, other: string): Promise<boolean> {
  if (JSON.stringify(file.spec(one)) !== JSON.stringify(file.spec(other))) return false;
  const pieces = file.pieces(other)[Symbol.asyncIterator]();
  for await (const { rows } of file.pieces(one)) {
    const { data } = ((await pieces.next()) as IteratorYieldResult<TensorPiece>).value.rows;
    if (!rows.data.every((value, index) => value === data[index])) return false;
  }
  return true;
}

/** Makes the pooler new if the checkpoint lacks it. Returns a pooler that the network does not read as `carried`. */
function withPooler(
  file: WeightsFile,
  architecture: Architecture,
  { prefix }: ModelType,
  path: string,
): { architecture: Architecture; carried: readonly Site[] } {
  const { pooler, sites } = architecture;
  if (!pooler) return { architecture, carried: [] };
  const isThere = ['weight', 'bias']
    .flatMap((end) => spellings(`${pooler.path}.${end}`, prefix))
    .some((key) => file.names.includes(key));
  const isRead = sites.some((site) => site.path === pooler.path);
  if (isThere || !isRead) return { architecture, carried: isThere && !isRead ? [pooler] : [] };
  warnOnce(
    `${path} has no '${pooler.path}', which a text classifier reads: it starts with random values, and is trained and saved with the head`,
  );
  return { architecture: withNewPooler(architecture, pooler), carried: [] };
}

async function weightsFile(folder: ModelFolder): Promise<string> {
  if (folder.weights) return folder.weights.name;
  for (const name of [WEIGHTS_FILE, INDEX_FILE]) if (await folder.exists(name)) return name;
  const hint = (await folder.exists('onnx/model.onnx'))
    ? 'the ONNX graph is read by fromOnnx of @peftjs/onnx'
    : await withoutWeights(folder, 'pytorch_model.bin');
  throw new CheckpointError(
    `there is no ${folder.pathOf(WEIGHTS_FILE)} or ${INDEX_FILE}: ${hint}`,
    folder.pathOf(WEIGHTS_FILE),
  );
}

function openWeights(folder: ModelFolder, name: string): Promise<WeightsFile> {
  if (folder.weights) return folder.weights.open();
  const source = (file: string) => folder.source(file);
  if (name === WEIGHTS_FILE) return source(name).then(openSafetensors);
  return openSharded(name, source);
}

/** Returns the head's modules in the checkpoint. The shape of the last one decides the number of outputs. */
function storedHead(file: WeightsFile, { head }: Architecture): Site[] {
  const key = ({ path }: Site): string => `${path}.weight`;
  const last = head.sites(1).at(-1);
  const outputs = last && file.names.includes(key(last)) ? (file.spec(key(last)).shape[0] ?? 0) : 0;
  return head.sites(Math.max(outputs, 1)).filter((site) => file.names.includes(key(site)));
}

function storedWeights(
  file: WeightsFile,
  network: Network,
  { prefix, savedBy }: ModelType,
  path: string,
): Record<string, StoredWeight> {
  const keys = new Set(file.names);
  const tables = new Map(network.tied?.map(({ site, table }) => [`${table}.weight`, `${site.path}.weight`]));
  const linear = [...network.sites, ...network.encodeOnly].filter(
    ({ kind, fanInFanOut }) => kind === 'linear' && !fanInFanOut,
  );
  const matrices = new Set(linear.map((site) => `${site.path}.weight`));
  return mapValues(weightShapes(network), (_, name) => {
    const key = storedName(keys, name, prefix) ?? storedName(keys, tables.get(name) ?? name, prefix);
    if (key !== undefined) return { key, ...file.spec(key), transposed: matrices.has(name) };
    throw new CheckpointError(`${path}: weight '${name}' is missing; expected a checkpoint of ${savedBy}`, name);
  });
}

/** Returns the name of a weight in a file; undefined if the file does not have it. */
function storedName(keys: ReadonlySet<string>, name: string, prefix: string): string | undefined {
  return spellings(name, prefix).find((spelling) => keys.has(spelling));
}

/** Returns the possible names of a weight: with or without the prefix, and with current or old names of layer norms. */
function spellings(name: string, prefix: string): string[] {
  const old = name.replace(/LayerNorm\.weight$/, 'LayerNorm.gamma').replace(/LayerNorm\.bias$/, 'LayerNorm.beta');
  return [name, old].flatMap((key) => [key, key.startsWith(prefix) ? key.slice(prefix.length) : prefix + key]);
}

/**
 * Rejects weights that the network does not have here: their checkpoint is of a network that computes something else.
 * Other heads and PyTorch's buffers are ignored.
 * @throws CheckpointError naming them.
 */
function assertNoUnknownWeights(
  file: WeightsFile,
  { name, sites }: Network,
  stored: Readonly<Record<string, StoredWeight>>,
  { modelType: { prefix, unusedWeights = [] }, path }: Pick<Expected, 'modelType'> & { readonly path: string },
): void {
  const read = new Set(Object.values(stored).map(({ key }) => key));
  const below = (key: string): string => (key.startsWith(prefix) ? key.slice(prefix.length) : key);
  const rootOf = (key: string): string | undefined => below(key).split('.', 1)[0];
  const isBare = !file.names.some((key) => key.startsWith(prefix));
  const roots = new Set(sites.map((site) => rootOf(site.path)));
  const isOwn = (key: string): boolean =>
    (key.startsWith(prefix) && rootOf(key) !== POOLER) ||
    (isBare && roots.has(rootOf(key))) ||
    sites.some((site) => key.startsWith(`${site.path}.`));
  const isKnown = (key: string): boolean =>
    read.has(key) || BUFFER.test(key) || unusedWeights.some((end) => key.endsWith(end));
  const unknown = file.names.filter((key) => isOwn(key) && !isKnown(key));
  if (unknown.length === 0) return;
  const names = firstNames(unknown.map((key) => `'${key}'`));
  throw new CheckpointError(
    `${path}: ${names} is not a weight of ${name} and would change its outputs; expected a checkpoint of only ${name}`,
    unknown[0],
  );
}

/** Matches PyTorch's buffers: positions, token types and RoPE frequencies. */
const BUFFER = /(?:^|\.)(?:position_ids|token_type_ids|(?:\w+_)?inv_freq)$/;

/** The name of the pooler, which many encoders have and only some heads read. */
const POOLER = 'pooler';

/** Returns a weight's dtype and shape in the architecture's layout. */
function declared({ dtype, shape, transposed }: StoredWeight): DeclaredWeight {
  return { dtype: FLOATS.includes(dtype) ? 'float32' : dtype, shape: transposed ? [...shape].reverse() : shape };
}

async function readAll(
  file: WeightsFile,
  stored: Readonly<Record<string, StoredWeight>>,
  precision: Precision,
  { folder, name: fileName }: Place,
): Promise<Record<string, HostTensor>> {
  const path = folder.pathOf(fileName);
  const bytes = mapValues(stored, ({ shape }, name) => precision.bytes(name, shape));
  const totalBytes = Object.values(bytes).reduce((sum, size) => sum + size, 0);
  folder.checkMemory(fileName, totalBytes);
  const weights: Record<string, HostTensor> = {};
  let loadedBytes = 0;
  for (const [name, storedWeight] of Object.entries(stored)) {
    weights[name] = await readWeight(file, storedWeight, { name, path, precision });
    loadedBytes += bytes[name] as number;
    folder.progress({ file: fileName, loadedBytes, totalBytes });
  }
  return weights;
}

/** Converts errors of the safetensors reader to CheckpointErrors, with the whole path of the file. */
async function inCheckpoint<T>(folder: ModelFolder, name: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof SafetensorsError)) throw error;
    const path = folder.pathOf(name);
    throw new CheckpointError(`${path}: ${error.message.replace(`${name}: `, '')}`, error.path ?? path, error);
  }
}
