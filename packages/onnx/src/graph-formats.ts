// The formats of ONNX models. The reader is loaded when a model is opened, so that others do not pay for it.
import type { CheckpointFormat, FileFormat } from '@peftjs/models/architectures';
import type { GraphOptions } from './checkpoint.js';

/** How a graph is read where nothing else is asked. */
export const DEFAULTS: GraphOptions = { pooling: 'mean', operators: {} };

/** What is asked of a model in a folder. */
interface Asked {
  readonly options: GraphOptions;
  /** The folder of the graph within the model's, as in transformers.js. Default: onnx, else none. */
  readonly subfolder?: string | undefined;
  /** The name of the graph's file, without its ending, as in transformers.js. Default: model, else model_fp16. */
  readonly modelFileName?: string | undefined;
  /** Files that a folder must not have. */
  readonly unless?: readonly string[];
}

/** Returns the formats of ONNX models that are read with these options. */
export function graphFormats({ options, subfolder, modelFileName, unless = [] }: Asked) {
  const folders = subfolder === undefined ? ['onnx/', ''] : [subfolder === '' ? '' : `${subfolder}/`];
  const names = modelFileName === undefined ? SUFFIXES.map((suffix) => `model${suffix}`) : [modelFileName];
  const markers = names.flatMap((name) => folders.map((folder) => `${folder}${name}.onnx`));
  const file: FileFormat = {
    ending: '.onnx',
    locate(path) {
      const [, folder = '', marker = path] = /^(.*?[\\/])??((?:onnx[\\/])?[^\\/]+)$/.exec(path) ?? [];
      return { folder: folder.slice(0, -1) || folder, format: graphFormat(marker.replace('\\', '/'), options) };
    },
  };
  return [file, ...markers.map((marker): CheckpointFormat => ({ ...graphFormat(marker, options), unless }))];
}

/** What transformers.js adds to the names of graphs, by dtype. Those in few bits are refused when they are read. */
const SUFFIXES = ['', '_fp16', '_quantized', '_int8', '_uint8', '_q4', '_q4f16', '_bnb4'];

/** Returns the format of a folder with this file. */
export function graphFormat(marker: string, options = DEFAULTS): CheckpointFormat {
  return {
    name: 'an ONNX graph',
    marker,
    async read(folder, task, dtype) {
      const { readGraph } = await import('./checkpoint.js');
      return readGraph(folder, marker, { task, dtype, options });
    },
    async files(folder) {
      const { besideGraph } = await import('./checkpoint.js');
      return besideGraph(folder);
    },
  };
}
