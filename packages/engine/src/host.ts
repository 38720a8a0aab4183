import { nodeModule } from '@peftjs/core/model';

/**
 * Imports a package that may not be installed. The name is an argument so that bundlers leave the import alone and
 * pages never request packages that only run in Node.
 */
export async function importOptional(name: string): Promise<object> {
  const module = (await import(/* @vite-ignore */ /* webpackIgnore: true */ name)) as { readonly default?: object };
  return module.default ?? module;
}

type Listener = (...details: unknown[]) => void;

interface NodeProcess {
  readonly env: Record<string, string | undefined>;
  listeners?(event: string): Listener[];
  removeListener?(event: string, listener: Listener): void;
}

const host = globalThis as {
  readonly process?: NodeProcess;
  readonly navigator?: { readonly hardwareConcurrency?: number };
  readonly crossOriginIsolated?: boolean;
};

/** Whether this is a page or a worker of one. */
export function isPage(): boolean {
  return nodeModule('node:os') === undefined;
}

/** Whether threads of this page may share memory. */
export function isIsolated(): boolean {
  return host.crossOriginIsolated === true;
}

/** An environment variable; undefined in a page. */
export function environment(name: string): string | undefined {
  return host.process?.env[name];
}

/** Sets an environment variable unless it has a value; does nothing in a page. */
export function defaultEnvironment(name: string, value: string): void {
  if (host.process) host.process.env[name] ??= value;
}

/** The number of threads that the machine can run at once. */
export function availableThreads(): number {
  const os = nodeModule('node:os') as typeof import('node:os') | undefined;
  return os?.availableParallelism() ?? host.navigator?.hardwareConcurrency ?? 1;
}

const CRASH_EVENTS = ['uncaughtException', 'unhandledRejection'];

/**
 * Runs `body`, then removes the crash handlers that it installed: those of the WASM backend would answer every later
 * error of the program with the text of its whole module.
 */
export async function withoutCrashHandlers(body: () => Promise<void>): Promise<void> {
  const listeners = (event: string): Listener[] => host.process?.listeners?.(event) ?? [];
  const before = new Set(CRASH_EVENTS.flatMap(listeners));
  try {
    await body();
  } finally {
    for (const event of CRASH_EVENTS) {
      for (const listener of listeners(event))
        if (!before.has(listener)) host.process?.removeListener?.(event, listener);
    }
  }
}
