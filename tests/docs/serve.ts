import { preview, type PreviewServer } from 'vite';

/** Serves a built site on this machine, with these headers for every file. */
export function serve(site: string, headers: Readonly<Record<string, string>> = {}): Promise<PreviewServer> {
  return preview({
    root: site,
    configFile: false,
    appType: 'mpa',
    logLevel: 'silent',
    build: { outDir: '.' },
    preview: { port: 0, headers: { ...headers } },
  });
}

/** The address of a served site, with a slash at its end. */
export function originOf(server: PreviewServer | undefined): string {
  return server?.resolvedUrls?.local[0] ?? '';
}
