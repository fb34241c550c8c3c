// Connects once, as a page of the documentation says, and prints `connected`. Argument: connection string.

import java.sql.DriverManager;

public final class Connect {
  public static void main(String[] arguments) throws Exception {
    DriverManager.getConnection(arguments[0]).close();
    System.out.println("connected");
  }
}
