/** How much of a file is here, in bytes. */
export interface FileProgress {
  readonly loaded: number;
  readonly total: number;
}

/** How loading goes, in the events of transformers.js. `name` is the repository, `progress` a percentage. */
export type ProgressInfo =
  | { readonly status: 'initiate' | 'download' | 'done'; readonly name: string; readonly file: string }
  | ({
      readonly status: 'progress';
      readonly name: string;
      readonly file: string;
      readonly progress: number;
    } & FileProgress)
  | ({
      readonly status: 'progress_total';
      readonly name: string;
      readonly progress: number;
      /** Every file that will be needed. */
      readonly files: Readonly<Record<string, FileProgress>>;
    } & FileProgress)
  | { readonly status: 'ready'; readonly task: string; readonly model: string };

/** Told how loading goes: `initiate`, `download` unless the file was here, `progress`, `done`; at the end `ready`. */
export type ProgressCallback = (info: ProgressInfo) => void;

/** Tells of one file. */
export interface FileReporter {
  /** It is asked for. */
  initiate(): void;
  /** It is not here yet. */
  download(): void;
  loaded(bytes: number): void;
  done(): void;
}

/** As fine as a progress bar shows it: a large file is no reason for a million events. */
const STEPS = 1000;

/** Makes reporters; `expected` are the sizes of the files that will be needed, as far as that is known. */
export function progressReporter(
  name: string,
  tell: ProgressCallback,
  expected: ReadonlyMap<string, number> = new Map(),
): (file: string, total: number) => FileReporter {
  const files = new Map<string, FileProgress>([...expected].map(([file, total]) => [file, { loaded: 0, total }]));
  return (file, total) => {
    let step = -1;
    return {
      initiate() {
        tell({ status: 'initiate', name, file });
      },
      download() {
        tell({ status: 'download', name, file });
      },
      loaded(loaded) {
        const reached = Math.floor(STEPS * share(loaded, total));
        if (reached === step) return;
        step = reached;
        files.set(file, { loaded, total });
        tell({ status: 'progress_total', name, ...totals(files) });
        tell({ status: 'progress', name, file, progress: 100 * share(loaded, total), loaded, total });
      },
      done() {
        tell({ status: 'done', name, file });
      },
    };
  };
}

function totals(files: ReadonlyMap<string, FileProgress>) {
  const sum = (key: keyof FileProgress): number => [...files.values()].reduce((all, file) => all + file[key], 0);
  const [loaded, total] = [sum('loaded'), sum('total')];
  return { progress: 100 * share(loaded, total), loaded, total, files: Object.fromEntries(files) };
}

/** An empty file is here as soon as it is asked for. */
function share(loaded: number, total: number): number {
  return total === 0 ? 1 : loaded / total;
}
