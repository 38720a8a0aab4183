import { existsSync, statSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import type { Command } from 'commander';
import type { InferenceSession } from 'onnxruntime-node';
import { PeftError } from '@peftjs/core';
import { CheckpointError, grouped, sizeOf, type Site } from '@peftjs/core/method';
import {
  ADAPTER_CONFIG,
  ADAPTER_METHOD,
  ADAPTER_WEIGHTS,
  isChatConfig,
  labelsIn,
  readAdapterConfig,
  type Task,
} from '@peftjs/core/model';
import { fromPretrained, isHubId, openFolder, type Folder } from '@peftjs/models';
import { limitIn } from '@peftjs/models/architectures';
import { bytesSource, openSafetensors, type ByteSource, type SafetensorsFile } from '@peftjs/safetensors';
import { loading } from '../registry/loading.js';
import { findPackage } from '../registry/packages.js';
import { formatCount, formatMetric, formatSmall, printableLines, textTable } from '../format.js';
import { sizingText } from '../results/sizing-table.js';
import { readResult, readSizing } from '../results/files.js';
import { unfinishedFolder } from '../results/folder.js';
import { withExample } from './flags.js';

/** `peftjs inspect`: shows the contents of an adapter, a model, an ONNX export, a safetensors file or a result. */
export function addInspectCommand(program: Command): void {
  withExample(program.command('inspect'), 'inspect my-adapter')
    .description("show the contents of an adapter, a model, an ONNX export, a safetensors file or a trial's result")
    .argument('<path>', 'a folder, a file, an npm package with a model, or a hub id (organisation/name)')
    .action(inspect);
}

async function inspect(path: string): Promise<void> {
  const isThere = existsSync(path);
  const isFile = isThere && statSync(path).isFile();
  if (path.endsWith('.safetensors') && (isFile || !isThere)) return inspectTensors(path);
  if (path.endsWith('.json') && isFile) return inspectResult(path);
  if (path.endsWith('.gguf') && (isFile || !isThere)) return inspectModel(path, 'causal-lm');
  if (path.endsWith('.onnx') && isFile) {
    await inspectGraphs(await openFolder(dirname(path)), [basename(path)]);
    return inspectModules(path);
  }
  if (!isFile && (isThere || isHubId(path))) return inspectFolder(path);
  if (!isThere && findPackage(path) !== undefined) return inspectModel(path);
  throw new CheckpointError(
    `${path}: expected an adapter or a model (a folder, an npm package or a hub id such as organisation/name), a .safetensors, .gguf or .onnx file, or the .json file of a trial`,
    path,
  );
}

async function inspectFolder(path: string): Promise<void> {
  const folder = await openFolder(path);
  if (await isAdapter(folder)) return inspectAdapter(folder);
  const graphs = await exportedGraphs(folder);
  if (graphs.length === 0) return inspectModel(path);
  await inspectExport(folder, graphs);
  return inspectModules(path);
}

async function inspectAdapter(folder: Folder): Promise<void> {
  const config = await readAdapterConfig(folder.path, folder.storage);
  const base = config.base_model_name_or_path;
  const path = `${folder.path}/${ADAPTER_WEIGHTS}`;
  const file = await openSafetensors(await opened(folder, ADAPTER_WEIGHTS)).catch((cause: unknown) => {
    throw new CheckpointError(`${path}: ${(cause as Error).message}`, path, cause);
  });
  const parameters = (names: readonly string[]): number =>
    names.reduce((sum, name) => sum + sizeOf(file.spec(name).shape), 0);
  say(
    `${titleOf(String(config.peft_type), file.metadata[ADAPTER_METHOD])} for ${typeof base === 'string' ? base : 'an unnamed model'}, ${formatCount(parameters(file.names))} parameters\n${classLine(labelsIn(config.id2label))}${temperatureLine(config.temperature)}${isChatConfig(config) ? CHAT_LINE : ''}\n`,
  );
  const modules = [...grouped(file.names, moduleOf)].sort(([a], [b]) => (a < b ? -1 : 1));
  const rows = modules.map(([module, names]) => [module, rankOf(file, names), formatCount(parameters(names))]);
  say(textTable(['module', 'rank', 'parameters'], rows, [1, 2]));
  await file.close();
  const sizing = await readSizing(folder.path, folder.storage);
  if (sizing) say(`\n${sizingText(sizing)}`);
}

const CHAT_LINE = 'trained on conversations: predict answers texts as messages (without the chat template: --raw)\n';

/** Names an adapter by its type, and by the method that made it if that is another one. */
function titleOf(type: string, method: string | undefined): string {
  const letters = (name: string): string => name.replace(/\W/g, '').toLowerCase();
  return method === undefined || letters(method) === letters(type)
    ? `${type} adapter`
    : `${method} adapter, stored as ${type},`;
}

async function inspectResult(path: string): Promise<void> {
  const result = await readResult(resolve(path));
  const { arm, model, task, seed, budget } = result;
  say(`${arm} on ${task}, ${model}, seed ${seed}, budget ${budget.spec}\n`);
  if (result.status === 'failed') {
    say(`failed: ${result.error.message}\n`);
    return;
  }
  const scores = Object.entries(result.metrics).map(([metric, value]) => [metric, formatMetric(value)]);
  const stored = ['stored parameters', formatCount(result.parameters.stored)];
  say(textTable(['', ''], [...scores, stored, ['seconds', formatCount(result.time.totalSeconds)]], [1]));
  if (result.sizing) say(`\n${sizingText(result.sizing)}`);
}

async function inspectTensors(path: string): Promise<void> {
  const file = await openSafetensors(path);
  const rows = file.names.map((name) => {
    const { dtype, shape } = file.spec(name);
    return [name, dtype, `[${shape.join(', ')}]`];
  });
  await file.close();
  say(textTable(['tensor', 'type', 'shape'], rows, []));
}

async function inspectModel(path: string, task?: Task): Promise<void> {
  const model = await fromPretrained(path, { ...loading, ...(task && { task }) });
  const parameters = Object.values(model.weights).reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  say(
    `${model.name}: ${formatCount(parameters)} parameters, up to ${model.maxTokens} tokens; fingerprint ${model.fingerprint.slice(0, 12)}\n${classLine(model.labels)}\n`,
  );
  const size = ({ inFeatures, outFeatures }: Site): string => `${inFeatures} -> ${outFeatures}`;
  const rows = model.sites.map((site) => [site.path, site.kind, site.role, size(site)]);
  say(textTable(['module', 'kind', 'role', 'size'], rows, []));
}

/** Shows the modules of an ONNX graph that methods adapt, or why there are none. */
async function inspectModules(path: string): Promise<void> {
  say('\n');
  await inspectModel(path).catch((error: unknown) => {
    if (!(error instanceof PeftError)) throw error;
    say(`cannot be trained: ${error.message}\n`);
  });
}

async function inspectExport(folder: Folder, graphs: readonly string[]): Promise<void> {
  const { model_type: type, id2label } = await settingsIn(folder, 'config.json');
  const { tokenizer_class: tokenizer, model_max_length: most } = await settingsIn(folder, 'tokenizer_config.json');
  const longest = limitIn(most);
  const limit = longest ? `, up to ${formatCount(longest)} tokens` : '';
  say(
    `ONNX export of a ${String(type)} model, tokenizer ${String(tokenizer)}${limit}\n${classLine(labelsIn(id2label))}\n`,
  );
  await inspectGraphs(folder, graphs);
}

async function inspectGraphs(folder: Folder, graphs: readonly string[]): Promise<void> {
  for (const graph of graphs) {
    const file = await opened(folder, graph);
    await file.close?.();
    const rows = await onnxSignature(folder, graph);
    say(`${graph}: ${formatCount(file.size)} bytes\n`);
    say(textTable(['', 'name', 'type', 'shape'], rows, []));
  }
}

/** The graphs of an export, by their paths in its folder. */
const GRAPHS = ['onnx/model.onnx', 'onnx/model_fp16.onnx', 'onnx/model_quantized.onnx'];

/** Weights of a model that peftjs loads: a folder that has them is more than an export. */
const WEIGHTS = ['model.safetensors', 'model.safetensors.index.json'];

/** The graphs of an ONNX export; none for any other folder. */
async function exportedGraphs({ path, storage }: Folder): Promise<string[]> {
  const existing = async (files: readonly string[]): Promise<string[]> => {
    const found = await Promise.all(files.map((file) => storage.exists(`${path}/${file}`)));
    return files.filter((_, index) => found[index]);
  };
  const graphs = await existing(GRAPHS);
  return graphs.length > 0 && (await existing(WEIGHTS)).length === 0 ? graphs : [];
}

/** What a graph takes and returns: one row of texts for each input and output. */
async function onnxSignature({ path, storage }: Folder, graph: string): Promise<string[][]> {
  const { InferenceSession: sessions } = await import('onnxruntime-node'); // only here: it may not be installed
  const name = `${path}/${graph}`;
  const options = { graphOptimizationLevel: 'disabled', logSeverityLevel: 4 } as const;
  try {
    // A path rather than bytes where there is one: the weights of a large graph are in a file beside it.
    const session = await (existsSync(name)
      ? sessions.create(name, options)
      : sessions.create(await storage.read(name), options));
    const { inputMetadata, outputMetadata } = session;
    await session.release();
    const row = (use: string) => (value: InferenceSession.ValueMetadata) =>
      value.isTensor ? [use, value.name, value.type, `[${value.shape.join(', ')}]`] : [use, value.name, 'no tensor'];
    return [...inputMetadata.map(row('input')), ...outputMetadata.map(row('output'))];
  } catch (cause) {
    throw new CheckpointError(`${name}: expected an ONNX file, got other or incomplete content`, name, cause);
  }
}

/** The folder of a model: for an .onnx file that around it, or the one around a folder `onnx`. */
export function aroundGraph({ path, storage }: Folder): Folder {
  return { path: path.endsWith('.onnx') ? dirname(path).replace(/(?:^|[\\/])onnx$/, '') || '.' : path, storage };
}

/** Reads the settings in a JSON file of a folder. Empty if that fails, because they are only shown. */
export async function settingsIn({ path, storage }: Folder, file: string): Promise<Readonly<Record<string, unknown>>> {
  try {
    const settings: unknown = JSON.parse(new TextDecoder().decode(await storage.read(`${path}/${file}`)));
    return { ...(settings as object) };
  } catch {
    return {};
  }
}

/** Lists the class names by index. They come from a file that may be hostile, so they are quoted. */
function classLine(labels: readonly string[] | undefined): string {
  if (labels === undefined) return '';
  const quoted = labels.map((label, index) => `${index} ${JSON.stringify(label).replace(/\p{C}/gu, '?')}`);
  return `classes: ${quoted.join(', ')}\n`;
}

function temperatureLine(temperature: unknown): string {
  return typeof temperature === 'number' ? `temperature of the scores: ${formatSmall(temperature)}\n` : '';
}

/** What follows a module's path in a name: a tensor of the module, or of a part that the adapter adds to it. */
const OWN_TENSOR = /(?:\.(?:\w+_[A-Z]|lora_\w+|adapter_\w+|base_layer|ln_tuning_layers|token_adapter))?\.\w+$/;

/** The path of the module that a tensor of an adapter belongs to; the name of a tensor that all modules share. */
export function moduleOf(tensor: string): string {
  return tensor.replace(/^base_model\.(model\.)?/, '').replace(OWN_TENSOR, '');
}

/** The rank of a module with LoRA's factors; a dash for any other module. */
function rankOf(file: SafetensorsFile, names: readonly string[]): string {
  const down = names.find((name) => /\.lora_(embedding_)?A/.test(name));
  return down === undefined ? '-' : String(file.spec(down).shape[0]);
}

function say(text: string): void {
  process.stdout.write(printableLines(text));
}

/**
 * Whether a folder holds an adapter, that is an adapter_config.json.
 * @throws CheckpointError for the folder of an adapter that is still being trained.
 */
export async function isAdapter({ path, storage }: Folder): Promise<boolean> {
  const isOne = await storage.exists(`${path}/${ADAPTER_CONFIG}`);
  if (isOne || !existsSync(unfinishedFolder(path))) return isOne;
  throw new CheckpointError(`${path} holds an unfinished training; rerun its train command to finish it`, path);
}

async function opened({ path, storage }: Folder, file: string): Promise<ByteSource> {
  const name = `${path}/${file}`;
  return (await storage.open?.(name)) ?? bytesSource(await storage.read(name));
}
