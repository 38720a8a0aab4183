import { join } from 'node:path';
import type { Command } from 'commander';
import { activeAdapter, mergeAndUnload, savePretrained, withAdapter, type Model, type PeftModel } from '@peftjs/core';
import { CheckpointError, ConfigError } from '@peftjs/core/method';
import {
  firstNames,
  ADAPTER_CONFIG,
  assertLabelNames,
  outputMeaning,
  outputsOf,
  readAdapterConfig,
  readsImages,
} from '@peftjs/core/model';
import { checkOnnx, exportOnnxFiles, type OnnxDtype, type TextInput } from '@peftjs/engine';
import {
  openFolder,
  pushSettings,
  pushToHub,
  saveGguf,
  saveGgufAdapter,
  saveMerged,
  saveOnnx,
  type GgufDtype,
  type PretrainedModel,
} from '@peftjs/models';
import { openSource } from '@peftjs/pipelines';
import { imageProcessor } from '@peftjs/tasks/images';
import { quoted } from '../format.js';
import { commandName } from '../registry/command-name.js';
import { everyMethod } from '../registry/methods.js';
import { loading } from '../registry/loading.js';
import { choice, count, withExample } from './flags.js';
import { checkOut, withOutFlags, type OutFlags } from './folders.js';
import { isAdapter } from './inspect.js';
import { pipelineOf, taskOfAdapter } from './subject.js';

/** A value of `--format`. */
type Format = 'peft' | 'merged' | 'onnx' | 'gguf' | 'gguf-merged';

/** The flags of `peftjs export`. */
interface ExportFlags extends OutFlags {
  readonly model?: string;
  readonly format: Format;
  readonly labels?: string;
  readonly dtype?: string;
  readonly rank?: number;
  readonly push?: string;
  readonly private?: boolean;
}

/** The values of `--dtype` by format, the default first. */
const DTYPES: Readonly<Partial<Record<Format, readonly string[]>>> = {
  onnx: ['fp32', 'q8', 'both'],
  'gguf-merged': ['fp16', 'q8', 'fp32'],
};

/** `peftjs export`: writes an adapter in another format, or the model with the adapter merged. */
export function addExportCommand(program: Command): void {
  const command = withExample(program.command('export'), 'export my-adapter --format onnx --dtype q8 --out my-model')
    .description(
      'convert an adapter for PEFT or llama.cpp, or merge it and write the model for transformers, transformers.js or llama.cpp',
    )
    .argument('<adapter>', 'an adapter from peftjs or PEFT: a folder or a hub id (organisation/name)')
    .option('--model <model>', 'base model, if not the one that the adapter names')
    .addOption(choice('--format <format>', 'output format', Object.keys(WRITERS)).makeOptionMandatory())
    .option(
      '--labels <label,..>',
      'class names in the order of the outputs, for an adapter that was saved without them',
    );
  command.addOption(
    choice(
      '--dtype <dtype>',
      'weights: fp32 (default), q8 or both with onnx; fp16 (default), q8 or fp32 with gguf-merged',
      [...new Set(Object.values(DTYPES).flat())],
    ),
  );
  command.option('--rank <n>', 'with gguf: ranks kept of a change that is not of low rank (default: 64)', count);
  command
    .option(
      '--push <repo>',
      'also upload to this Hugging Face hub repository (organisation/name), with the token in HF_TOKEN',
    )
    .option('--private', 'with --push: make a new repository private');
  withOutFlags(command, 'output folder').action(exportAdapter);
}

/** What to write, and where. */
interface Exported {
  readonly model: PretrainedModel;
  readonly peft: PeftModel;
  readonly out: string;
  readonly dtype?: string | undefined;
  readonly rank?: number | undefined;
}

const WRITERS: Readonly<Record<Format, (exported: Exported) => Promise<string>>> = {
  async peft({ peft, out }) {
    await savePretrained(peft, out);
    return 'the adapter';
  },
  async merged({ peft, out }) {
    await saveMerged(mergeAndUnload(peft), out, loading);
    return 'the merged model';
  },
  async onnx({ model, peft, out, dtype: wanted = 'fp32' }) {
    const isMergeable = activeAdapter(peft).method.capabilities.mergeable;
    const source: PeftModel | Model = isMergeable ? mergeAndUnload(peft) : peft; // if not mergeable, the adapter's layers become part of the graph
    const maxTokens = Math.min(model.maxTokens, MAX_TOKENS);
    if (readsImages(model) && (wanted !== 'fp32' || !isMergeable)) {
      throw new ConfigError('a network of images is only written in fp32, with an adapter that can be merged', 'dtype');
    }
    if (model.graph && isMergeable && wanted === 'fp32') return writeGraph(source as Model, model, out, maxTokens);
    const graphs = new Map<string, Uint8Array>();
    const distances: string[] = [];
    for (const dtype of wanted === 'both' ? (['fp32', 'q8'] as const) : [wanted as OnnxDtype]) {
      const files = await exportOnnxFiles(source, { inputs: inputsOf(model), dtype });
      distances.push(shownDistance(dtype, await checkOnnx(files, source, { maxTokens, dtype })));
      for (const [file, bytes] of files) graphs.set(file, bytes);
    }
    const meant = { ...peft.model, ...outputMeaning(activeAdapter(peft)) };
    await saveOnnx('adapters' in source ? meant : source, graphs, out, { ...loading, maxTokens });
    const { maxTokens: longest } = model.withPast ?? {};
    const limit = longest === undefined ? '' : ` for texts of at most ${longest} tokens, prompts included,`;
    return `the model as ONNX, ${distances.join(' and ')},${limit}`;
  },
  async gguf({ peft, out, rank }) {
    const options = { ...loading, ...(rank !== undefined && { rank }) };
    const error = await saveGgufAdapter(peft, join(out, GGUF_ADAPTER), options);
    const shown = `its changes of the weights differ from those of the adapter by ${(100 * error).toPrecision(2)} %`;
    return `the adapter for llama.cpp${error === 0 ? '' : ` (${shown})`}`;
  },
  async 'gguf-merged'({ peft, out, dtype = 'fp16' }) {
    await saveGguf(peft, join(out, GGUF_MODEL), { ...loading, dtype: dtype as GgufDtype });
    return `the merged model for llama.cpp in ${dtype}`;
  },
};

const GGUF_ADAPTER = 'adapter.gguf';
const GGUF_MODEL = 'model.gguf';

/** What to do with what has been written. */
const NEXT: Readonly<Record<Format, (out: string, task: string, isChat: boolean) => string>> = {
  peft: (out, task) =>
    `${commandName} predict ${quoted(out)} ${task === 'image-classification' ? 'photo.jpg' : '"a text"'}, or PeftModel.from_pretrained(model, '${out}') in PEFT`,
  merged: (out, task, isChat) =>
    `${commandName} predict ${quoted(out)} ${isChat ? '--chat ' : ''}"a text", or pipeline('${task}', '${out}') in transformers`,
  gguf: (out) => `"ADAPTER ${join(out, GGUF_ADAPTER)}" in a Modelfile of Ollama, or --lora of llama.cpp`,
  'gguf-merged': (out) => `"FROM ${join(out, GGUF_MODEL)}" in a Modelfile of Ollama, or --model of llama.cpp`,
  onnx: (out, task) =>
    `await pipeline('${task}', '${out}') in transformers.js; ${commandName} inspect ${quoted(out)} describes it`,
};

/** Writes the graph that a model was read from, with its weights. */
async function writeGraph(
  merged: Model,
  { preprocessor }: PretrainedModel,
  out: string,
  maxTokens: number,
): Promise<string> {
  const { mergedGraph } = await import('@peftjs/onnx'); // only here: most models are not from graphs
  const { files, rounding } = await mergedGraph(merged);
  const processor = readsImages(merged) ? imageProcessor(preprocessor) : undefined;
  const images = processor && { imageSize: [processor.height, processor.width] as const };
  const shown =
    rounding > 0
      ? `as its graph has them, rounded by at most ${rounding.toExponential(1)}`
      : shownDistance('fp32', await checkOnnx(files, merged, { maxTokens, ...images }));
  await saveOnnx(merged, files, out, { ...loading, maxTokens });
  return `the model as the ONNX graph that it was read from, with merged weights ${shown},`;
}

/** Says how far the outputs of the graph are from the model's. */
function shownDistance(dtype: OnnxDtype, distance: number): string {
  const adapter = "the adapter's for random tokens";
  if (dtype === 'q8') return `in 8 bits (its outputs differ from ${adapter} by ${(100 * distance).toPrecision(2)} %)`;
  const equal = distance === 0 ? 'equal' : `are within ${distance.toExponential(0)} of`;
  return `in float32 (its outputs ${equal} ${adapter})`;
}

/** The longest input, in tokens, that a graph is exported for: its position tables grow with it. */
const MAX_TOKENS = 4096;

/**
 * Returns the graph's inputs. Token types only where the tokenizer has them, since transformers.js passes no others.
 */
function inputsOf({ tokenizer }: PretrainedModel): TextInput[] {
  return ['inputIds', 'attentionMask', ...(tokenizer.encode('a').typeIds ? (['tokenTypeIds'] as const) : [])];
}

/** The pipeline that opens an exported model. */
function pipelineFor({ model }: PeftModel): string {
  return readsImages(model) ? 'image-classification' : pipelineOf(model.task ?? 'sequence-classification');
}

async function exportAdapter(adapter: string, flags: ExportFlags): Promise<void> {
  const { model: base, format, labels, dtype, rank, out, force, push, private: isPrivate } = flags;
  assertFits(flags);
  if (isPrivate && push === undefined)
    throw new ConfigError('--private applies to the repository of --push; add --push', 'private');
  if (push !== undefined && force) {
    throw new ConfigError('--push uploads every file in --out; name a new folder, without --force', 'force');
  }
  if (push !== undefined) pushSettings(push);
  checkOut({ out, ...(force && { force }) }, 'export');
  const folder = await openFolder(adapter);
  if (!(await isAdapter(folder))) {
    throw new CheckpointError(`${adapter}: expected an adapter, a folder or hub id with ${ADAPTER_CONFIG}`, adapter);
  }
  const task = await taskOfAdapter(await readAdapterConfig(folder.path, folder.storage), adapter, base);
  const opened = await openSource(task, adapter, {
    methods: await everyMethod(),
    model: base,
    adapters: {},
    loading,
  });
  const loaded = opened.loadedModel as PeftModel;
  const peft =
    labels === undefined
      ? loaded
      : labelled(
          loaded,
          labels.split(',').map((label) => label.trim()),
        );
  const written = await WRITERS[format]({ model: peft.model as PretrainedModel, peft, out, dtype, rank });
  process.stderr.write(`wrote ${written} to ${out}\n`);
  if (push === undefined) {
    const { isChat = false } = activeAdapter(peft);
    process.stderr.write(`next: ${NEXT[format](out, pipelineFor(peft), isChat)}\n`);
    return;
  }
  const { url, commit } = await pushToHub(out, push, { ...(isPrivate && { private: true }) });
  process.stderr.write(`pushed to ${url}, commit ${commit.slice(0, 12)}\n`);
}

/** @throws ConfigError for an option that is not for the format. */
function assertFits({ format, dtype, rank }: Pick<ExportFlags, 'format' | 'dtype' | 'rank'>): void {
  if (dtype !== undefined && !DTYPES[format]?.includes(dtype)) {
    const known = DTYPES[format];
    const formats = Object.keys(DTYPES).join(' and ');
    throw new ConfigError(
      known
        ? `--dtype ${dtype} is not for --format ${format}, which takes ${known.join(', ')}`
        : `--dtype ${dtype} is only for --format ${formats}; ${format} is always float32, so leave --dtype out`,
      'dtype',
    );
  }
  if (rank !== undefined && format !== 'gguf') {
    throw new ConfigError(`--rank is only for --format gguf; leave it out with ${format}`, 'rank');
  }
}

/**
 * Names the adapter's classes.
 * @throws ConfigError if the adapter has other names, or if its model has no classes or a different number of them.
 */
function labelled(peft: PeftModel, labels: readonly string[]): PeftModel {
  const { model } = peft;
  if (model.task === 'causal-lm') {
    throw new ConfigError('a causal language model has no class labels; leave --labels out', 'labels');
  }
  assertLabelNames(labels, outputsOf(model) ?? 0);
  const { labels: own = labels } = activeAdapter(peft);
  if (own.join() === labels.join()) return withAdapter(peft, { labels });
  throw new ConfigError(
    `the adapter's classes, in the order of its outputs, are ${firstNames(own)}, but --labels is ${firstNames(labels)}; ` +
      'leave --labels out, or rename them in adapter_config.json',
    'labels',
  );
}
