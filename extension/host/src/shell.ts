// A program in a terminal that stays when the program has ended, so that its last lines can be read. Nothing is quoted for a
// POSIX shell: program and arguments reach it as its own arguments.

export interface Shell {
  path: string;
  args: string[];
}

// Ctrl-C is the program's: the shell takes it too, and waits on. What it says at the end goes where nobody reads it by machine.
const HOLD = 'trap : INT; "$@"; code=$?; printf "\\nended with code %s - Enter closes this terminal " "$code"; read -r _; exit 0';

export function held(program: string, args: readonly string[], platform: NodeJS.Platform = process.platform): Shell {
  if (platform === "win32") {
    const words = [program, ...args].map((word) => `'${word.replaceAll("'", "''")}'`);
    return { path: "powershell.exe", args: ["-NoLogo", "-NoExit", "-Command", `& ${words.join(" ")}`] };
  }
  return { path: "/bin/sh", args: ["-c", HOLD, "sh", program, ...args] };
}
